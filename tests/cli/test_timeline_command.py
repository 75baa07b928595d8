import json
from pathlib import Path

import pytest

from pyg_mspipe.pipeline.record import STAGES, BatchRecord
from pyg_mspipe.timeline.trace import TraceWriter


@pytest.fixture
def trace():
    """Writes a pass whose stages take 2 ms each, one after the other."""

    def write(batches=20, limit=None, name="out.json"):
        with TraceWriter(Path(name), "synthetic, epoch 1", limit=limit) as writer:
            for index in range(batches):
                begin = {stage: 0.01 * index + 0.002 * number for number, stage in enumerate(STAGES)}
                finish = {stage: t + 0.002 for stage, t in begin.items()}
                writer.add(BatchRecord(index, begin, finish, fetched=index))
        return name

    return write


def refused(result, message):
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert message in result.stderr


def test_the_log_of_a_run_is_no_timeline(mspipe):
    Path("metrics.jsonl").write_text("{}\n{}\n")
    refused(mspipe("timeline", "metrics.jsonl"), "metrics.jsonl is the log of a run; give the trace that --timeline")


def test_a_timeline_is_summarized(mspipe, trace, files):
    result = mspipe("timeline", trace())
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("synthetic, epoch 1\n")
    assert "20 batches, 100.0 a second; at most 250.0; 0% of the possible overlap reached" in result.stdout
    assert "staleness  0: 100.0%" in result.stdout
    assert "all stages ran one after the other; --overlap always" in result.stdout
    assert files() == ["out.json"]


def test_stages_that_ran_beside_training_are_not_said_to_have_run_in_line(mspipe):
    with TraceWriter(Path("out.json")) as writer:
        for index in range(20):
            begin = {stage: 0.002 * (index + number) for number, stage in enumerate(STAGES)}
            writer.add(BatchRecord(index, begin, {stage: t + 0.002 for stage, t in begin.items()}, fetched=index))
    result = mspipe("timeline", "out.json")
    assert result.exit_code == 0, result.stderr
    assert "in line" not in result.stdout


def test_the_summary_says_that_just_the_first_batches_were_written(mspipe, trace):
    assert mspipe("timeline", trace(30, limit=10)).stdout.startswith("synthetic, epoch 1, first 10 of 30 batches\n")


@pytest.mark.parametrize("choice", [[], ["--first", 3, "--last", 8], ["--first", 3], ["--last", 8]])
def test_a_timeline_is_drawn(mspipe, trace, files, choice):
    result = mspipe("timeline", trace(), "--png", "out.png", *choice)
    assert result.exit_code == 0, result.stderr
    assert "20 batches" in result.stdout
    assert Path("out.png").read_bytes().startswith(b"\x89PNG")
    assert files() == ["out.json", "out.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.json"], "nowhere.json"),
        (["other.json"], "other.json: JSON, but not the timeline of a pipeline; give a trace as --timeline wrote it"),
        (["short.json"], "1 batches finished all stages"),
        (["out.json", "--first", 3], "--first and --last choose what --png draws; give --png FILE too"),
        (["out.json", "--png", "out.json"], "--png out.json: give a name that ends in .png"),
        (["out.json", "--png", "nowhere/out.png"], "nowhere"),
        (["out.json", "--png", "out.png", "--first", 30], "no batches from 30 to 41; there are 0 to 19"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(mspipe, trace, files, arguments, message):
    trace()
    trace(1, name="short.json")
    Path("other.json").write_text(json.dumps({"traceEvents": []}))
    before = {name: Path(name).read_bytes() for name in files()}
    refused(mspipe("timeline", *arguments), message)
    assert {name: Path(name).read_bytes() for name in files()} == before


def test_a_batch_before_the_first_is_a_usage_error(mspipe, trace, files):
    assert mspipe("timeline", trace(), "--png", "out.png", "--first", -1).exit_code == 2
    assert files() == ["out.json"]


def test_a_folder_is_no_timeline(mspipe):
    Path("runs").mkdir()
    refused(mspipe("timeline", "runs"), "runs is a folder; give the trace that --timeline wrote")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nodir/out.json", "--timeline nodir/out.json: the folder nodir does not exist; make it or give another file"),
        (".", "--timeline . is a folder; give the name of a file"),
    ],
)
def test_a_place_that_no_timeline_can_be_written_to_is_refused_before_the_run(mspipe, files, place, message):
    refused(mspipe("train", "synthetic", "--timeline", place, "--out", "run"), message)
    assert files() == []
