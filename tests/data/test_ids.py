"""Every id keeps its identity, whatever kind of number or text it is; the oracle is a dictionary."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from pyg_mspipe.data import StreamError, load_stream
from pyg_mspipe.data.ids import ids_of, number_by_appearance

LARGE = [9223372036854775808, 9223372036854775809, 9223372036854775810]


def numbered(src, dst, **options):
    one, other = number_by_appearance(ids_of(np.asarray(src)), ids_of(np.asarray(dst)), **{"separate": False} | options)
    return one.tolist(), other.tolist()


def expected(src, dst):
    number = {}
    pairs = [[number.setdefault(node, len(number)) for node in pair] for pair in zip(src, dst, strict=True)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1)), min_size=1))
def test_unsigned_beside_signed_integers(pairs):
    src, dst = (list(side) for side in zip(*pairs, strict=True))
    found = numbered(np.array(src, dtype=np.uint64), np.array(dst, dtype=np.int64))
    assert found == expected(src, dst)


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**53) + 1, 2**53 - 1)), min_size=1))
def test_integers_beside_whole_floats(pairs):
    src, dst = (list(side) for side in zip(*pairs, strict=True))
    assert numbered(np.array(src, dtype=np.int64), np.array(dst, dtype=np.float64)) == expected(src, dst)


@given(st.lists(st.tuples(st.integers(), st.integers()), min_size=1))
def test_numbers_of_any_length_as_texts(pairs):
    src, dst = (list(side) for side in zip(*pairs, strict=True))
    assert numbered([str(x) for x in src], [f"{x}.0" for x in dst]) == expected(src, dst)


def test_texts_are_what_they_are_but_for_whole_numbers():
    texts = ["007", "7", "7.0", "1e3", "1000", "7.00", "+7", " 7", "7 ", "-0", "a", "A", "7.5", "7.", "\uff11"]
    found, _ = numbered(texts, texts, separate=True)
    assert found == [0, 1, 1, 2, 3, 1, 4, 5, 6, 7, 8, 9, 10, 11, 12]


def test_ids_past_int64_in_a_text_file(tmp_path):
    path = tmp_path / "e.csv"
    path.write_text("src,dst,t\n" + "".join(f"{each},{n}.0,{n}\n" for n, each in enumerate(LARGE)))
    data = load_stream(path, relabel=True)
    assert (data.src.tolist(), data.dst.tolist()) == ([0, 2, 4], [1, 3, 5])
    with pytest.raises(StreamError, match=r"event 0 \(line 2\): src is 9223372036854775808, past 9007199254740992"):
        load_stream(path)


def test_ids_that_float64_would_merge_in_a_text_file(tmp_path):
    path = tmp_path / "e.csv"
    path.write_text("src,dst,t\n1582218195625938945,1.0,1\n1582218195625938946,2.0,2\n")
    assert load_stream(path, relabel=True).src.tolist() == [0, 2]
    assert load_stream(path).src.tolist() == [1582218195625938945, 1582218195625938946]


def test_texts_that_look_like_one_number_are_several_nodes(tmp_path):
    path = tmp_path / "e.csv"
    path.write_text("src,dst,t\n007,a,1\n7,a,2\n1e3,a,3\n1000,a,4\n7.0,a,5\n")
    assert load_stream(path, relabel=True).src.tolist() == [0, 2, 3, 4, 2]


@pytest.mark.parametrize("name", ["e.npz", "e.parquet"])
def test_unsigned_ids_past_int64(tmp_path, name):
    path, large = tmp_path / name, np.array(LARGE, dtype=np.uint64)
    columns = {"src": large, "dst": np.array([1, 2, 1]), "t": np.array([1, 2, 3])}
    if name == "e.npz":
        np.savez(path, **columns)
    else:
        parquet.write_table(pa.table(columns), path)
    assert load_stream(path, relabel=True).src.tolist() == [0, 2, 4]
    with pytest.raises(StreamError, match=r"event 0: column 'src' holds 9223372036854775810, past 2\*\*63"):
        load_stream(path)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1.5, 2.0], "event 0: column 'src' holds 1.5, which is no id"),
        ([1.0, 2.0**53 + 2], "event 1: column 'src' holds 9007199254740994.0, which is no id"),
        ([1.0, np.inf], "event 1: column 'src' holds inf, which is no id"),
        ([1j, 2j], "event 0: column 'src' holds values of type complex128; give a number or a text for each event"),
        ([True, False], "event 0: column 'src' holds values of type bool; give a number or a text for each event"),
        ([[1, 2], [3, 4]], "event 0: column 'src' holds values of type int64; give a number or a text for each event"),
    ],
)
def test_what_is_no_id_is_refused(tmp_path, values, said):
    np.savez(tmp_path / "e.npz", src=np.array(values), dst=[1, 2], t=[1, 2])
    with pytest.raises(StreamError) as error:
        load_stream(tmp_path / "e.npz", relabel=True)
    assert said in error.value.problems[0]
    assert len(error.value.problems) == 1


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([{"a": 1}, {"a": 2}]), "holds {'a': 1}, not an id; give a number or a text"),
        (pa.array([["a"], ["b"]]), "holds values of type"),
        (pa.array([[1], [2]]), "holds values of type int64"),
    ],
)
def test_lists_and_structs_are_no_ids(tmp_path, column, said):
    parquet.write_table(pa.table({"src": column, "dst": [1, 2], "t": [1, 2]}), tmp_path / "e.parquet")
    with pytest.raises(StreamError) as error:
        load_stream(tmp_path / "e.parquet", relabel=True)
    assert said in error.value.problems[0]


def test_decimals_of_spark_are_whole_numbers(tmp_path):
    from decimal import Decimal

    large = pa.array([Decimal(LARGE[0]), Decimal(LARGE[1])], pa.decimal128(20, 0))
    parquet.write_table(pa.table({"src": large, "dst": [1, 2], "t": [1, 2]}), tmp_path / "e.parquet")
    assert load_stream(tmp_path / "e.parquet", relabel=True).src.tolist() == [0, 2]
