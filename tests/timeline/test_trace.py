import contextlib
import itertools
import json
import resource
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipelined_records import pipelined

from pyg_mspipe.pipeline.record import STAGES, BatchRecord
from pyg_mspipe.timeline.trace import TraceWriter, read_title, read_trace, write_trace


def events_of(path, phase, category=None):
    events = json.loads(path.read_text())["traceEvents"]
    return [event for event in events if event["ph"] == phase and category in (None, event.get("cat"))]


def arrows_of(path):
    """Pairs of start and end by id, which must be unique."""
    starts, ends = ({event["id"]: event for event in events_of(path, phase)} for phase in "sf")
    assert len(starts) == len(events_of(path, "s")) == len(events_of(path, "f"))
    assert starts.keys() == ends.keys()
    return [(starts[number], ends[number]) for number in starts]


def slice_around(path, event):
    """The batch of the one slice on the event's row that is open at its time, as a viewer would find it."""
    open_then = [
        each["args"]["index"]
        for each in events_of(path, "X")
        if each["tid"] == event["tid"] and each["ts"] <= event["ts"] < each["ts"] + each["dur"]
    ]
    assert len(open_then) == 1
    return open_then[0]


random_pass = st.builds(
    pipelined,
    tau=st.tuples(*[st.floats(0.01, 9)] * 5),
    batches=st.integers(1, 25),
    bound=st.integers(0, 4),
    rows=st.floats(0, 1),
    jitter=st.floats(0, 0.9),
    seed=st.integers(0, 99),
    delay=st.booleans(),
)


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "out.json"
    write_trace(path, pipelined(jitter=0.3), title="a pass")
    return path


def test_every_event_has_the_fields_that_a_viewer_needs(trace):
    content = json.loads(trace.read_text(), parse_constant=pytest.fail)
    assert isinstance(content["traceEvents"], list)
    for event in content["traceEvents"]:
        assert event["ph"] in "MXisf"
        assert (event["pid"], type(event["name"])) == (1, str)
        if event["ph"] != "M":
            assert (event["ts"] >= 0, type(event["tid"]), type(event["cat"])) == (True, int, str)
        if event["ph"] == "X":
            assert event["dur"] >= 0
        if event["ph"] in "sf":
            assert type(event["id"]) is int
    assert all(event["bp"] == "e" for event in events_of(trace, "f"))


def test_rows_are_named_after_the_stages_and_sorted_in_their_order(trace):
    names = {event["tid"]: event["args"]["name"] for event in events_of(trace, "M") if event["name"] == "thread_name"}
    order = {
        event["tid"]: event["args"]["sort_index"]
        for event in events_of(trace, "M")
        if event["name"] == "thread_sort_index"
    }
    assert [names[row] for row in sorted(names, key=order.__getitem__)] == list(STAGES)
    assert {(names[event["tid"]], event["name"]) for event in events_of(trace, "X")} == {
        (stage, f"batch {index}") for stage in STAGES for index in range(40)
    }


def test_slices_are_in_microseconds_and_carry_the_batchs_numbers(tmp_path):
    stages = {stage: 0.001 * number for number, stage in enumerate(STAGES, start=1)}
    record = BatchRecord(
        7, stages, {s: t + 0.0005 for s, t in stages.items()}, 0.00425, bound=2, fetched=6, staleness=1
    )
    write_trace(tmp_path / "out.json", [record])
    slices = events_of(tmp_path / "out.json", "X")
    assert [(each["ts"], each["dur"]) for each in slices] == [(1000.0 * n, 500.0) for n in range(1, 6)]
    assert all(each["args"] == {"index": 7, "bound": 2, "fetched": 6, "staleness": 1} for each in slices)
    (mark,) = events_of(tmp_path / "out.json", "i")
    assert (mark["ts"], mark["tid"], mark["s"]) == (4250.0, slices[3]["tid"], "t")


@settings(max_examples=40, deadline=None)
@given(records=random_pass)
def test_an_arrow_leads_from_each_commit_to_the_first_fetch_that_saw_it(records, tmp_path_factory):
    path = tmp_path_factory.mktemp("trace") / "out.json"
    write_trace(path, records)
    arrows = arrows_of(path)
    assert all(start["ts"] <= end["ts"] for start, end in arrows)
    found = {(slice_around(path, start), slice_around(path, end)) for start, end in arrows}
    assert len(found) == len(arrows)
    expected = {(record.fetched - 1, record.index) for record in records if record.fetched > 0}
    for commit in range(len(records)):
        seen_by = [record.index for record in records if record.fetched > commit]
        expected |= {(commit, min(seen_by))} if seen_by else set()
    assert found == expected


def test_an_arrow_whose_commit_ends_within_the_fetch_still_leads_forward(tmp_path):
    first = BatchRecord(0, {"update": 0.0}, {"update": 0.010})
    second = BatchRecord(1, {"fetch": 0.009}, {"fetch": 0.012}, fetched=1)
    write_trace(tmp_path / "out.json", [first, second])
    ((start, end),) = arrows_of(tmp_path / "out.json")
    assert start["ts"] <= end["ts"]
    assert [slice_around(tmp_path / "out.json", each) for each in (start, end)] == [0, 1]


def test_an_arrow_that_would_lead_back_in_time_is_left_out(tmp_path):
    first = BatchRecord(0, {"update": 0.02}, {"update": 0.03})
    second = BatchRecord(1, {"fetch": 0.01}, {"fetch": 0.015}, fetched=1)
    write_trace(tmp_path / "out.json", [first, second])
    assert arrows_of(tmp_path / "out.json") == []


@settings(max_examples=40, deadline=None)
@given(records=random_pass)
def test_slices_of_a_row_never_overlap_in_whole_nanoseconds(records, tmp_path_factory):
    path = tmp_path_factory.mktemp("trace") / "out.json"
    write_trace(path, records)
    for row in range(1, 6):
        slices = [each for each in events_of(path, "X") if each["tid"] == row]
        spans = sorted((int(each["ts"] * 1000), int(each["ts"] * 1000) + int(each["dur"] * 1000)) for each in slices)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


@settings(max_examples=40, deadline=None)
@given(records=random_pass)
def test_what_is_written_is_read_back(records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trace")
    write_trace(folder / "once.json", records, title="a pass")
    read = read_trace(folder / "once.json")
    assert [(r.index, r.bound, r.fetched, r.staleness) for r in read] == [
        (r.index, r.bound, r.fetched, r.staleness) for r in records
    ]
    for one, other in zip(read, records, strict=True):
        assert one.begin == pytest.approx(other.begin, rel=0, abs=1e-7)
        assert one.finish == pytest.approx(other.finish, rel=0, abs=1e-7)
        assert one.rows_at == pytest.approx(other.rows_at, rel=0, abs=1e-7)
    write_trace(folder / "twice.json", read, title=read_title(folder / "once.json"))
    assert (folder / "twice.json").read_bytes() == (folder / "once.json").read_bytes()


def test_stages_that_a_batch_never_finished_are_left_out(tmp_path):
    records = pipelined(batches=6)
    for record, missing in zip(records[2:], range(1, 5), strict=True):
        for stage in STAGES[-missing:]:
            del record.finish[stage]
    records.append(BatchRecord(6, begin={"sample": 0.05}))
    write_trace(tmp_path / "out.json", records)
    read = read_trace(str(tmp_path / "out.json"))
    assert [list(record.finish) for record in read] == [list(record.finish) for record in records[:6]]
    assert all(record.begin.keys() == record.finish.keys() for record in read)


def test_a_pass_that_did_nothing_is_still_valid_json(tmp_path):
    write_trace(tmp_path / "out.json", [])
    assert events_of(tmp_path / "out.json", "X") == []
    with pytest.raises(ValueError, match=r"out\.json: the trace has no batches; record a run"):
        read_trace(tmp_path / "out.json")


def test_only_the_first_batches_of_a_long_pass_are_written_and_the_title_says_so(tmp_path):
    with TraceWriter(tmp_path / "out.json", "long", limit=3) as writer:
        for record in pipelined(batches=10):
            writer.add(record)
    assert [record.index for record in read_trace(tmp_path / "out.json")] == [0, 1, 2]
    title = "long, first 3 of 10 batches"
    assert read_title(tmp_path / "out.json") == title
    assert title in {event["args"].get("name") for event in events_of(tmp_path / "out.json", "M")}


def test_memory_does_not_grow_with_the_pass(tmp_path):
    def held_after(batches):
        for record in itertools.islice(records, batches):
            writer.add(record)
        return tracemalloc.get_traced_memory()[0]

    records = iter(pipelined(batches=3000))
    tracemalloc.start()
    try:
        with TraceWriter(tmp_path / "out.json", limit=None) as writer:
            early = held_after(500)
            assert held_after(2500) < early + 20_000
    finally:
        tracemalloc.stop()


def test_a_limit_below_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match="limit=0; give at least 1, or None for all batches"):
        TraceWriter(tmp_path / "out.json", limit=0)


@pytest.mark.parametrize("index", [3, 4])
def test_batches_of_two_passes_are_refused(tmp_path, index):
    with TraceWriter(tmp_path / "out.json") as writer:
        writer.add(BatchRecord(4))
        with pytest.raises(ValueError, match=f"batch {index} comes after batch 4; a trace has the batches of one pass"):
            writer.add(BatchRecord(index))


def test_a_pass_that_fails_leaves_its_timeline(tmp_path):
    def fail():
        with TraceWriter(tmp_path / "out.json") as writer:
            for record in pipelined(batches=5):
                writer.add(record)
            assert not (tmp_path / "out.json").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert len(read_trace(tmp_path / "out.json")) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.parametrize("limit", [0, 500, 10_000, 100_000])
def test_a_trace_that_cannot_be_written_leaves_the_one_before(trace, limit):
    before = trace.read_bytes()
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, allowed[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_trace(trace, pipelined(batches=100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
    assert trace.read_bytes() == before
    assert [path.name for path in trace.parent.iterdir()] == [trace.name]


def test_a_trace_with_a_hole_is_not_kept_even_if_its_error_was_passed_over(trace):
    before = trace.read_bytes()
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)

    def go_on():
        with TraceWriter(trace) as writer:
            for record in pipelined(batches=100):
                soft = 10_000 if record.index < 50 else allowed[0]
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, allowed[1]))
                with contextlib.suppress(OSError):
                    writer.add(record)

    with pytest.raises(OSError, match="File too large"):
        go_on()
    assert trace.read_bytes() == before
    assert [path.name for path in trace.parent.iterdir()] == [trace.name]


def test_where_it_cannot_be_written_is_known_before_the_first_batch(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder; give the name of a file"), TraceWriter(tmp_path):
        pytest.fail("the pass began")
    with pytest.raises(FileNotFoundError), TraceWriter(tmp_path / "nowhere" / "out.json"):
        pytest.fail("the pass began")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"out\.json: not JSON .*; give a trace as --timeline wrote it"),
        ('{"traceEvents": [', "not JSON"),
        ("\xff", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "JSON, but not the timeline of a pipeline"),
        ("3", "JSON, but not the timeline of a pipeline"),
        ('{"traceEvents": []}', "JSON, but not the timeline of a pipeline"),
        ('{"otherData": {"mspipe_timeline": 1}}', "JSON, but not the timeline of a pipeline"),
        (
            '{"traceEvents": [], "otherData": {"mspipe_timeline": 9}}',
            "timeline format 9, this version reads 1; record it",
        ),
    ],
)
def test_a_file_that_is_no_such_trace_is_refused(tmp_path, text, message):
    (tmp_path / "out.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        read_trace(tmp_path / "out.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ts": -1.0}, r"event 10: ts is -1\.0, not a time in microseconds from 0 on"),
        ({"ts": "soon"}, "ts is 'soon'"),
        ({"ts": float("nan")}, "ts is nan"),
        ({"dur": None}, "dur is None"),
        ({"tid": 9}, "a row of no stage"),
        ({"tid": 2}, "batch 0 has its stage gather twice"),
        ({"args": []}, "args is not an object"),
        ({"args": {"index": 0, "bound": 1, "fetched": 0}}, "staleness is None, not a whole number from 0 on"),
        ({"args": {"index": True, "bound": 1, "fetched": 0, "staleness": 0}}, "index is True"),
    ],
)
def test_a_damaged_event_is_refused_by_its_number(trace, change, message):
    content = json.loads(trace.read_text())
    assert (content["traceEvents"][10]["ph"], content["traceEvents"][10]["tid"]) == ("X", 1)
    # The second event of the batch comes after its first, so that a stage may be there twice.
    content["traceEvents"][10], content["traceEvents"][11] = content["traceEvents"][11], content["traceEvents"][10]
    content["traceEvents"][11] |= change
    trace.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message.replace("event 10", "event 11")):
        read_trace(trace)


def test_events_of_others_are_passed_over(trace):
    content = json.loads(trace.read_text())
    content["traceEvents"][:0] = [3, {"ph": "X", "name": "mine", "ts": "?"}]
    trace.write_text(json.dumps(content))
    assert len(read_trace(trace)) == 40
