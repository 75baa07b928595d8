import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_streams import bipartite, columns, positives_of, stream_of
from pyarrow import parquet

from pyg_mspipe.data import StreamError
from pyg_mspipe.tasks.protocols import Candidates, read_candidates
from pyg_mspipe.tasks.protocols.candidates import stream_digest

lists = st.lists(st.lists(st.integers(0, 99), max_size=6), min_size=1, max_size=12)


def candidates_of(first, of_events, dtype=torch.long):
    ptr = torch.tensor([0, *map(len, of_events)]).cumsum(0)
    return Candidates(first, ptr, torch.tensor([x for each in of_events for x in each], dtype=dtype))


@settings(deadline=None)
@given(st.data(), lists, st.sampled_from([torch.int32, torch.int64]))
def test_each_event_has_its_list_whichever_events_are_asked_for_together(draw, of_events, dtype):
    data, first = bipartite(), 17
    candidates = candidates_of(first, of_events, dtype)
    start = draw.draw(st.integers(0, len(of_events)))
    end = draw.draw(st.integers(start, len(of_events)))
    negatives = candidates(positives_of(data, range(first + start, first + end)))
    assert negatives.dst.dtype == torch.long
    assert negatives.dst.shape == (max(map(len, of_events)), end - start)
    assert columns(negatives) == of_events[start:end]


@pytest.mark.parametrize(("asked", "odd"), [(range(15, 19), 15), (range(17, 20), 19), (range(25, 30), 25)])
def test_an_event_without_a_list_is_refused_by_name(asked, odd):
    candidates = candidates_of(17, [[1], [2, 3]])
    with pytest.raises(ValueError, match=rf"^event {odd} has no list of candidates; .* events 17 to 18: "):
        candidates(positives_of(bipartite(), asked))


@settings(deadline=None, max_examples=30)
@given(lists, st.sampled_from([torch.int32, torch.int64]))
def test_lists_are_read_as_they_were_saved(tmp_path_factory, of_events, dtype):
    path = tmp_path_factory.mktemp("lists") / "lists.parquet"
    candidates = candidates_of(5, of_events, dtype)
    candidates.save(path, {"stream": "abc", "num": 6})
    found = Candidates.load(path, {"num": 6})
    assert found.first == 5
    assert found.dst.dtype == dtype
    assert torch.equal(found.ptr, candidates.ptr)
    assert torch.equal(found.dst, candidates.dst)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"stream": "b"}, r"lists.parquet holds candidates made for another stream; delete the file to have "),
        ({"stream": "a", "num": 7}, r"lists.parquet holds candidates made for num 6, not 7; delete the file "),
        ({"seed": "3"}, r"lists.parquet holds candidates made for seed None, not 3; delete the file "),
    ],
)
def test_lists_that_were_made_from_something_else_are_refused(about, message, tmp_path):
    candidates_of(5, [[1], [2]]).save(tmp_path / "lists.parquet", {"stream": "a", "num": 6})
    with pytest.raises(StreamError, match=message):
        Candidates.load(tmp_path / "lists.parquet", about)


def test_a_file_that_is_damaged_or_something_else_is_refused_in_one_line(tmp_path):
    path = tmp_path / "lists.parquet"
    candidates_of(5, [list(range(50))] * 40).save(path, {})
    whole = path.read_bytes()
    refused = 0
    for position in range(4, len(whole), len(whole) // 60):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 255]) + whole[position + 1 :])
        try:
            found = Candidates.load(path, {}).dst.tolist()
        except StreamError as error:
            refused += str(error).startswith(str(path)) and "\n" not in str(error)
        else:
            refused += found == list(range(50)) * 40
    assert refused == len(range(4, len(whole), len(whole) // 60))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StreamError, match="cannot be read"):
        Candidates.load(path, {})
    parquet.write_table(pa.table({"event": [1], "dst": [2]}), path)
    with pytest.raises(StreamError, match="is no file of candidates that were made here; move it away"):
        Candidates.load(path, {})


def test_the_digest_of_a_stream_tells_its_events_apart():
    data = bipartite()
    digest = stream_digest(data)
    assert digest == stream_digest(bipartite())
    for name in ("src", "dst", "t"):
        other = bipartite()
        other[name][7] += 1
        assert stream_digest(other) != digest


DATA = stream_of([0, 1, 2, 0, 1, 2], [3, 4, 5, 4, 5, 3], [1, 2, 3, 4, 5, 6])
ROWS = {"event": [5, 4, 5, 1, 4, 5], "dst": [4, 3, 0, 5, 4, 3]}


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npz"])
def test_a_file_of_ones_own_has_rows_of_event_and_destination_in_any_order(suffix, tmp_path):
    path = tmp_path / f"mine.{suffix}"
    if suffix == "csv":
        path.write_text("event,dst\n" + "".join(f"{e},{v}\n" for e, v in zip(*ROWS.values(), strict=True)))
    elif suffix == "parquet":
        parquet.write_table(pa.table(ROWS), path)
    else:
        np.savez(path, **ROWS)
    candidates = read_candidates(path, DATA, range(4, 6))
    assert columns(candidates(positives_of(DATA, range(4, 6)))) == [[3, 4], [4, 0, 3]]


def test_a_file_that_was_saved_here_is_read_by_its_stream_alone(tmp_path):
    path = tmp_path / "saved.parquet"
    candidates_of(4, [[3], [4, 0]]).save(path, {"stream": stream_digest(DATA)})
    assert read_candidates(path, DATA, range(4, 6)).dst.tolist() == [3, 4, 0]
    with pytest.raises(StreamError, match="made for another stream"):
        read_candidates(path, bipartite(), range(4, 6))
    with pytest.raises(StreamError, match="for the events 4 to 5, not for all of 4 to 6; name the file of that part"):
        read_candidates(path, DATA, range(4, 7))


@pytest.mark.parametrize("dtype", [np.int32, np.uint16, np.int64])
def test_an_array_of_tgb_seqs_form_has_a_row_for_each_event_of_the_part(dtype, tmp_path):
    rows = np.array([[3, 5, 4], [5, 0, 4]], dtype=dtype)
    np.save(tmp_path / "X_test_ns.npy", rows)
    candidates = read_candidates(tmp_path / "X_test_ns.npy", DATA, range(4, 6))
    negatives = candidates(positives_of(DATA, range(4, 6)))
    assert torch.equal(negatives.dst, torch.from_numpy(rows.astype(np.int64)).t())
    assert not negatives.padded


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("event,to\n4,3\n", "has no column dst; it has event, to: name them event, the event's id, and dst"),
        (
            "event,dst\n4,3\n4,9\n5,3\n",
            r"row 1 (line 3): dst is 9; the stream has the nodes 0 to 5, by its own numbers",
        ),
        ("event,dst\n4,3\n-1,3\n5,3\n", "row 1 (line 3): event is -1; the stream has the events 0 to 5"),
        ("event,dst\n4,3\n5,3.5\n", "row 1 (line 3): dst is 3.5, not a whole number; give an id of the stream"),
        ("event,dst\n4,3\n5,a\n", "column 'dst' holds object, not whole numbers; give ids of the stream"),
        ("event,dst\n4,3\n", "has no candidates for event 5; every event from 4 to 5 needs some"),
    ],
)
def test_a_file_of_ones_own_that_does_not_fit_is_refused_with_row_and_mend(text, message, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(StreamError) as raised:
        read_candidates(path, DATA, range(4, 6))
    assert message in str(raised.value)
    assert str(raised.value).startswith(str(path))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            np.zeros((3, 4), dtype=int),
            "has 3 rows, and the part that it is for 2 events; split the stream as the file's",
        ),
        (
            np.zeros((2, 4)),
            "holds float64 of shape [2, 4]; save one array of whole numbers, [events, candidates of each]",
        ),
        (np.zeros(2, dtype=int), "holds int64 of shape [2]; save one array"),
        (np.array([[1, 2], [3, 6]]), "row 1, of event 5: node 6 is none of the stream's 6; number nodes as the stream"),
        (np.array([[1, -2], [3, 5]]), "row 0, of event 4: node -2 is none of the stream's 6"),
        (np.array([[1, None], [3, 5]]), "cannot be read (Object arrays cannot be loaded when allow_pickle=False)"),
    ],
)
def test_an_array_that_does_not_fit_is_refused_with_row_and_mend(rows, message, tmp_path):
    path = tmp_path / "mine.npy"
    np.save(path, rows, allow_pickle=True)
    with pytest.raises(StreamError) as raised:
        read_candidates(path, DATA, range(4, 6))
    assert message in str(raised.value)


@pytest.mark.parametrize("name", ["gone.csv", "gone.npy", "gone.parquet"])
def test_a_file_that_is_not_there_is_refused(name, tmp_path):
    with pytest.raises(StreamError, match=r"gone\.\w+ (does not exist|cannot be read)"):
        read_candidates(tmp_path / name, DATA, range(4, 6))


def test_a_column_of_lists_is_refused_as_such(tmp_path):
    path = tmp_path / "lists.npz"
    np.savez(path, event=np.arange(4, 6), dst=np.zeros((2, 3), dtype=np.int64))
    with pytest.raises(StreamError, match="column 'dst' holds lists; give a row for each candidate"):
        read_candidates(path, DATA, range(4, 6))
