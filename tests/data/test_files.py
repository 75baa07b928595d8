import gzip

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from pyg_mspipe.data import StreamError, find_problems, load_stream

EVENTS = {"src": [0, 1, 0], "dst": [2, 3, 3], "t": [5, 5, 9]}


def write(path, table):
    """Writes a table (name to values) in the format of the path's suffix."""
    if path.suffix == ".npz":
        np.savez(path, **{name: np.asarray(values) for name, values in table.items()})
    elif path.suffix == ".parquet":
        parquet.write_table(pa.table(table), path)
    else:
        rows = (["" if value is None else str(value) for value in row] for row in zip(*table.values(), strict=True))
        text = "".join(",".join(row) + "\n" for row in [table, *rows]).encode()
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.fixture(params=["events.csv", "events.csv.gz", "events.parquet", "events.npz"])
def path(request, tmp_path):
    return tmp_path / request.param


def test_every_format_gives_the_same_stream(path):
    data = load_stream(
        write(path, EVENTS | {"y": [0, 1, 0], "msg_1": [1.5, 2, 3], "msg_0": [4, 5, 6], "note": [7, 7, 7]})
    )
    assert [data[name].tolist() for name in ("src", "dst", "t", "y")] == [[0, 1, 0], [2, 3, 3], [5, 5, 9], [0, 1, 0]]
    assert data.msg.tolist() == [[4, 1.5], [5, 2], [6, 3]]
    assert [data[name].dtype for name in ("src", "dst", "t", "msg")] == [torch.int64] * 3 + [torch.float32]


def test_a_file_without_features_gives_features_of_width_zero(path):
    assert load_stream(write(path, EVENTS)).msg.shape == (3, 0)


def test_columns_are_mapped(path):
    table = {"user": [0, 1], "item": [2, 3], "ts": [1, 2], "b": [3, 4], "a": [1, 2], "label": [1, 0]}
    columns = {"src": "user", "dst": "item", "t": "ts", "msg": ["a", "b"], "y": "label"}
    data = load_stream(write(path, table), columns=columns)
    assert (data.src.tolist(), data.dst.tolist(), data.t.tolist()) == ([0, 1], [2, 3], [1, 2])
    assert (data.msg.tolist(), data.y.tolist()) == ([[1, 3], [2, 4]], [1, 0])


def test_numbered_features_are_ordered_by_their_numbers(tmp_path):
    table = EVENTS | {f"msg_{i}": [i] * 3 for i in (10, 9, 0)}
    assert load_stream(write(tmp_path / "e.csv", table)).msg[0].tolist() == [0, 9, 10]


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float32(), 2), pa.large_list(pa.int16())])
def test_parquet_lists_become_features(tmp_path, kind):
    table = EVENTS | {"msg": pa.array([[1, 2], [3, 4], [5, 6]], type=kind)}
    assert load_stream(write(tmp_path / "e.parquet", table)).msg.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_a_matrix_in_a_numpy_file_becomes_features(tmp_path):
    data = load_stream(write(tmp_path / "e.npz", EVENTS | {"msg": np.arange(6.0, dtype=">f8").reshape(3, 2)}))
    assert data.msg.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_a_single_feature_column_has_width_one(path):
    assert load_stream(write(path, EVENTS | {"msg": [1, 2, 3]})).msg.tolist() == [[1], [2], [3]]


def test_timestamps_become_integers_in_their_own_unit(tmp_path):
    t = pa.array([1_700_000_000_001, 1_700_000_000_002, 1_700_000_000_002], type=pa.timestamp("ms"))
    data = load_stream(write(tmp_path / "e.parquet", EVENTS | {"t": t}))
    assert data.t.tolist() == [1_700_000_000_001, 1_700_000_000_002, 1_700_000_000_002]


def test_days_of_numpy_become_integers(tmp_path):
    t = np.array(["1970-01-02", "1970-01-03", "1970-01-05"], dtype="datetime64[D]")
    assert load_stream(write(tmp_path / "e.npz", EVENTS | {"t": t})).t.tolist() == [1, 2, 4]


def test_time_scale_keeps_fractions_of_a_second(path):
    data = load_stream(write(path, EVENTS | {"t": [0.25, 1.001, 1700000000.123]}), time_scale=1000)
    assert data.t.tolist() == [250, 1001, 1700000000123]


def test_time_scale_multiplies_whole_times_exactly(path):
    data = load_stream(write(path, EVENTS | {"t": [1, 2, 2**53 + 1]}), time_scale=2)
    assert data.t.tolist() == [2, 4, 2**54 + 2]


def test_fractional_times_without_a_scale_are_refused(path):
    with pytest.raises(StreamError, match=r"event 1( \(line 3\))?: t is 5\.5, not a whole number; .*time_scale=1000"):
        load_stream(write(path, EVENTS | {"t": [5, 5.5, 6]}))


@pytest.mark.parametrize("time_scale", [0, -1.0, float("nan"), float("inf")])
def test_a_time_scale_that_is_no_factor_is_refused(tmp_path, time_scale):
    with pytest.raises(StreamError, match=r"time_scale is .*; give a positive factor"):
        load_stream(write(tmp_path / "e.csv", EVENTS), time_scale=time_scale)


def test_bipartite_moves_destinations_behind_the_sources(path):
    data = load_stream(write(path, {"src": [0, 4, 0], "dst": [0, 1, 1], "t": [1, 2, 3]}), bipartite=True)
    assert (data.src.tolist(), data.dst.tolist()) == ([0, 4, 0], [5, 6, 6])


def test_relabel_numbers_strings_in_the_order_of_their_appearance(path):
    table = {"src": ["b", "a", "b"], "dst": ["z", "b", "a"], "t": [1, 2, 3]}
    data = load_stream(write(path, table), relabel=True)
    assert (data.src.tolist(), data.dst.tolist()) == ([0, 2, 0], [1, 0, 2])


def test_relabel_of_a_bipartite_file_numbers_the_sides_for_themselves(path):
    table = {"src": ["b", "a", "b"], "dst": ["z", "b", "a"], "t": [1, 2, 3]}
    data = load_stream(write(path, table), relabel=True, bipartite=True)
    assert (data.src.tolist(), data.dst.tolist()) == ([0, 1, 0], [2, 3, 4])


def test_relabel_takes_integers_on_one_side_and_strings_on_the_other(path):
    data = load_stream(write(path, {"src": [7, 7, 9], "dst": ["7", "x", "9"], "t": [1, 2, 3]}), relabel=True)
    assert (data.src.tolist(), data.dst.tolist()) == ([0, 0, 2], [0, 1, 2])


def test_blank_lines_are_no_events_and_are_counted_as_lines(tmp_path):
    path = tmp_path / "e.csv"
    path.write_text("src,dst,t,msg\n  \n0,1,1,5\n\n\t\n1,2,2,\n")
    assert load_stream(path, check=False).src.tolist() == [0, 1]
    with pytest.raises(StreamError, match=r"event 1 \(line 6\): msg is nan"):
        load_stream(path)


@pytest.mark.parametrize("relabel", [False, True])
def test_a_csv_in_another_encoding_is_named_with_its_line(tmp_path, relabel):
    path = tmp_path / "e.csv"
    path.write_bytes("src,dst,t\na,b,1\né,b,2\n".encode("latin-1"))
    with pytest.raises(StreamError, match=r"event 1 \(line 3\): column 'src' is not in UTF-8; save the file as UTF-8"):
        load_stream(path, relabel=relabel)
    path.write_text(path.read_text("latin-1"), encoding="utf-8")
    assert load_stream(path, relabel=True).src.tolist() == [0, 2]


@pytest.mark.parametrize("name", ["e.csv", "e.parquet"])
def test_a_missing_id_is_named(tmp_path, name):
    table = {"src": [0, None, 1], "dst": [2, 3, 4], "t": [1, 2, 3]}
    with pytest.raises(StreamError, match=r"event 1( \(line 3\))?: src is nan"):
        load_stream(write(tmp_path / name, table))
    with pytest.raises(StreamError, match=r"event 1.*: column 'src' is empty or NA"):
        load_stream(write(tmp_path / name, table), relabel=True)


def test_a_missing_string_id_is_named(tmp_path):
    table = {"src": ["a", "b", None], "dst": ["x", "y", "z"], "t": [1, 2, 3]}
    with pytest.raises(StreamError, match="event 2: column 'src' is empty or NA; fill in the id"):
        load_stream(write(tmp_path / "e.parquet", table), relabel=True)


@pytest.mark.parametrize("gap", ["", "NA", "null"])
@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz"])
def test_an_empty_id_among_texts_is_no_node_and_its_event_and_line_are_named(tmp_path, name, gap):
    path = write(tmp_path / name, {"src": ["a", "b", "c"], "dst": ["x", "y", gap], "t": [1, 2, 3]})
    with pytest.raises(StreamError, match=r"event 2 \(line 4\): column 'dst' is empty or NA; fill in the id or drop"):
        load_stream(path, relabel=True, bipartite=True)


@pytest.mark.parametrize("name", ["e.parquet", "e.npz"])
def test_a_text_without_letters_is_no_id(tmp_path, name):
    path = write(tmp_path / name, {"src": ["a", "", "c"], "dst": ["x", "y", "z"], "t": [1, 2, 3]})
    with pytest.raises(StreamError, match="event 1: column 'src' is empty"):
        load_stream(path, relabel=True)


def test_the_line_of_an_event_counts_empty_lines_and_those_within_quotes(tmp_path):
    (tmp_path / "e.csv").write_text('src,dst,t\n\n"a\nb",x,1\n\nb,,2\n')
    with pytest.raises(StreamError, match=r"event 1 \(line 6\): column 'dst' is empty"):
        load_stream(tmp_path / "e.csv", relabel=True)


@pytest.mark.parametrize("name", ["e.csv", "e.parquet", "e.npz"])
def test_of_many_values_the_one_that_is_no_number_is_named(tmp_path, name):
    path = write(
        tmp_path / name, {"src": [0] * 5, "dst": [1] * 5, "t": [1] * 5, "msg": ["1", "-2.5", "3e4", "5 EUR", "x"]}
    )
    with pytest.raises(StreamError, match=r"event 3( \(line 5\))?: column 'msg' holds '5 EUR'; it must hold numbers"):
        load_stream(path)


@pytest.mark.parametrize(
    ("times", "event"),
    [
        (["13/03/2024 09:10", "2024/03/14 09:10"], 0),
        (["2024-03-13T09:10:37Z", "2024-03-14T09:10:37Z", "2024-03-15 09:10"], 2),
        (["2024-03-13 09:10", "2024-03-14 09:10:30.5", "15.3.2024"], 2),
        (["17", "18.5", "yesterday"], 2),
    ],
)
def test_a_time_that_is_no_date_is_named_with_the_way_to_write_it(tmp_path, times, event):
    ids = list(range(len(times)))
    path = write(tmp_path / "e.csv", {"src": ids, "dst": ids, "t": times})
    with pytest.raises(StreamError) as raised:
        load_stream(path)
    assert str(raised.value) == (
        f"{path}: event {event} (line {event + 2}): column 't' holds {times[event]!r}; "
        f"it must hold numbers or dates; write dates as 2024-03-13 09:10, or give their form: pass "
        f"time_format='%d-%m-%Y'"
    )


def test_a_file_whose_first_line_is_an_event_is_refused_with_the_way_to_name_its_columns(tmp_path):
    (tmp_path / "e.csv").write_text("ann,tea,2024-03-13T09:10:37Z\nbob,jam,2024-03-14T09:10:37Z\n")
    with pytest.raises(StreamError, match=r"it has 'ann', .*: its first line looks like an event; name the columns"):
        load_stream(tmp_path / "e.csv", columns={"src": "user", "dst": "item", "t": "time"})


def test_a_feature_that_is_not_finite_is_named_by_its_column(path):
    table = EVENTS | {"Count": [1, 2, 3], "Price (EUR)": [1.0, float("nan"), 3.0]}
    with pytest.raises(StreamError, match=r"event 1( \(line 3\))?: msg is nan in column 'Price \(EUR\)', not finite"):
        load_stream(write(path, table), columns={"msg": ["Count", "Price (EUR)"]})
    with pytest.raises(StreamError, match=r"event 1( \(line 3\))?: msg is nan in column 'Price \(EUR\)'"):
        load_stream(write(path, table), columns={"msg": "Price (EUR)"})


def test_a_feature_in_a_matrix_is_named_by_its_number(tmp_path):
    np.savez(tmp_path / "s.npz", src=[0], dst=[1], t=[1], rows=[[1.0, float("nan")]])
    with pytest.raises(StreamError, match="msg is nan in column 1"):
        load_stream(tmp_path / "s.npz", columns={"msg": "rows"})


def test_string_ids_are_refused_with_the_way_to_number_them(path):
    with pytest.raises(StreamError, match="column 'src' holds 'a', not integer ids; pass relabel=True"):
        load_stream(write(path, EVENTS | {"src": ["a", "b", "c"]}))


def test_strings_among_the_features_are_refused(path):
    with pytest.raises(StreamError, match="column 'msg_0' holds 'a'; it must hold numbers"):
        load_stream(write(path, EVENTS | {"msg_0": ["a", "b", "c"]}))


def test_missing_columns_are_listed_with_what_the_file_has_and_the_mapping_to_pass(path):
    with pytest.raises(StreamError) as raised:
        load_stream(write(path, {"user": [0], "dst": [1], "ts": [2]}))
    assert str(raised.value) == (
        f"{path} has no column 'src', 't'; it has 'user', 'dst', 'ts': pass columns={{'src': '...', 't': '...'}}"
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"msg": ["a", "b"]}, "has no column 'a', 'b'; it has 'src', 'dst', 't': pass columns={'msg': '...'}"),
        ({"y": "label"}, "has no column 'label'"),
        ({"user": "src"}, "columns has the key 'user'; its keys are src, dst, t, msg, y"),
        ({"src": ["a", "b"]}, "columns['src'] is ['a', 'b']; only msg can come from several columns"),
    ],
)
def test_a_mapping_that_fits_no_column_is_refused(tmp_path, columns, message):
    with pytest.raises(StreamError) as raised:
        load_stream(write(tmp_path / "e.csv", EVENTS), columns=columns)
    assert message in str(raised.value)


def test_lists_of_different_lengths_are_refused(tmp_path):
    for lists in ([[1], [2, 3], [4]], [[1], None, [4]]):
        with pytest.raises(StreamError, match=r"column 'msg' holds lists of different lengths or none \(event 1\)"):
            load_stream(write(tmp_path / "e.parquet", EVENTS | {"msg": lists}))


def test_arrays_of_different_lengths_are_refused(tmp_path):
    with pytest.raises(StreamError, match="the lengths of the fields differ"):
        load_stream(write(tmp_path / "e.npz", EVENTS | {"t": [1]}))
    with pytest.raises(StreamError, match="src has 1 entries and dst 3"):
        load_stream(write(tmp_path / "e.npz", EVENTS | {"src": [1]}), relabel=True)
    with pytest.raises(StreamError, match="the columns of msg have different lengths"):
        load_stream(write(tmp_path / "e.npz", EVENTS | {"msg_0": [1], "msg_1": [1, 2, 3]}))
    with pytest.raises(StreamError, match="'t' is a single value"):
        load_stream(write(tmp_path / "e.npz", EVENTS | {"t": 3}))


def test_a_file_without_events_is_refused(path):
    with pytest.raises(StreamError, match="the stream is empty"):
        load_stream(write(path, {"src": [], "dst": [], "t": [], "msg_0": []}))


def test_a_numpy_file_with_python_objects_is_not_unpickled(tmp_path):
    path = tmp_path / "e.npz"
    np.savez(path, src=np.array([{}], dtype=object), dst=[1], t=[1])
    with pytest.raises(StreamError, match="array 'src' cannot be read"):
        load_stream(path)


@pytest.mark.parametrize("content", [b"", b"\x00\x01garbage", b"a,b\n1,2,3\n"])
def test_a_damaged_file_is_refused_in_one_line(path, content):
    path.write_bytes(content)
    with pytest.raises(StreamError) as raised:
        load_stream(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def test_a_single_array_is_refused(tmp_path):
    with (tmp_path / "e.npz").open("wb") as file:
        np.save(file, np.arange(3))
    with pytest.raises(StreamError, match="holds a single array"):
        load_stream(tmp_path / "e.npz")


def test_without_the_check_everything_that_is_wrong_can_be_listed(tmp_path):
    path = write(tmp_path / "e.csv", {"src": [0, -1, 2.5], "dst": [1, 1, 1], "t": [3, 2, 1], "msg_0": [0, None, 1]})
    problems = find_problems(load_stream(path, check=False))
    assert [problem.split(":")[1].split()[0] for problem in problems] == ["src", "src", "t", "msg"]


def test_a_negative_destination_of_a_bipartite_file_is_not_moved_among_the_sources(tmp_path):
    np.savez(tmp_path / "s.npz", src=[0, 1, 2], dst=[-1, 0, 1], t=[1, 2, 3])
    with pytest.raises(StreamError, match="event 0: dst is -1"):
        load_stream(tmp_path / "s.npz", bipartite=True)


def test_a_time_that_is_none_is_named(tmp_path):
    np.savez(tmp_path / "s.npz", src=[0, 1], dst=[1, 0], t=np.array(["2020-01-01", "NaT"], dtype="datetime64[s]"))
    with pytest.raises(StreamError, match="event 1: 't' is not a time; fill it in or drop the event"):
        load_stream(tmp_path / "s.npz", sort=True)


def test_relabel_takes_a_whole_number_and_its_float_for_the_same_id(tmp_path):
    np.savez(tmp_path / "s.npz", src=np.array([10, 20]), dst=np.array([20.0, 10.0]), t=[1, 2])
    data = load_stream(tmp_path / "s.npz", relabel=True)
    assert (data.src.tolist(), data.dst.tolist()) == ([0, 1], [1, 0])


def test_a_column_y_of_texts_is_left_alone_unless_asked_for(tmp_path):
    (tmp_path / "s.csv").write_text("src,dst,t,y\n0,1,5,good\n1,0,6,bad\n")
    assert "y" not in load_stream(tmp_path / "s.csv")
    with pytest.raises(StreamError, match="column 'y' holds 'good'; it must hold numbers"):
        load_stream(tmp_path / "s.csv", columns={"y": "y"})


def test_time_scale_takes_times_of_single_precision(tmp_path):
    np.savez(tmp_path / "s.npz", src=[0], dst=[1], t=np.array([20000.5], dtype=np.float32))
    assert load_stream(tmp_path / "s.npz", time_scale=1000).t.tolist() == [20000500]


@pytest.mark.parametrize("rows", [1_000, 40_000])
def test_a_line_break_within_quotes_ends_no_event(tmp_path, rows):
    path = tmp_path / "e.csv"
    text = "".join(f'{n % 7},{n % 5},{n},"a {n}\n1,2,{n},b"\n' for n in range(rows))
    path.write_text(f"src,dst,t,note\n{text}")
    data = load_stream(path)
    assert data.num_events == rows
    assert data.t.tolist() == list(range(rows))


@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz"])
def test_a_cell_may_be_longer_than_arrows_blocks(tmp_path, name):
    data = load_stream(
        write(tmp_path / name, {"src": [0, 1], "dst": [1, 0], "t": [1, 2], "note": ["x" * 10_000_000, "y"]})
    )
    assert data.src.tolist() == [0, 1]
