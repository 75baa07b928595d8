import json
import re
from pathlib import Path

import pytest

from pyg_mspipe.timeline.trace import read_trace


def row(result, name):
    return next(line for line in result.stdout.splitlines() if line.startswith(name))


def ran(mspipe, *arguments):
    result = mspipe("simulate", *arguments)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    return result


def test_a_simulation_prints_rate_bound_cap_staleness_and_what_limits(mspipe, files):
    result = ran(mspipe, "--tau", "1,1,1,5,6", "--batches", 200)
    assert result.stdout.startswith("simulated, minimal, 200 batches, prefetch 3\n")
    assert "166.7 batches a second" in row(result, "rate")
    assert "166.7 (Lambda 6 ms); 100.0% of it reached" in row(result, "1 / Lambda")
    assert "1 (fetch, rows and update take 12 ms)" in row(result, "k*")
    assert re.search(r"^ +1 █+ 99\.5%", result.stdout, re.MULTILINE)
    assert row(result, "limited by  update:")
    assert files() == []


def test_the_timeline_shows_batches_one_after_the_other_in_each_stage(mspipe):
    result = ran(mspipe, "--tau", "5,2,2,5,4", "--rows", 0.5)
    for stage in ("sample", "gather", "fetch", "train", "update"):
        shown = [int(number) for number in re.findall(r"\d+", row(result, stage))]
        assert len(shown) >= 4
        assert shown == list(range(shown[0], shown[0] + len(shown)))
    assert set(row(result, "stale  ").split()[1:]) == {"1"}
    assert row(result, "train").count("◆") >= 5


@pytest.mark.parametrize(
    ("mode", "rate", "staleness"),
    [("sequential", "71.4", 0), ("exact", "200.0", 0), ("0", "90.9", 0), ("1", "181.", 1), ("2", "200.0", 2)],
)
def test_every_mode_has_its_rate_and_staleness(mspipe, mode, rate, staleness):
    result = ran(mspipe, "--tau", "1,2,3,5,3", "--mode", mode)
    assert re.search(rf" {rate}\d* batches a second", row(result, "rate"))
    assert re.search(rf" {staleness} █+ (100\.0|99\.\d)%", result.stdout)


def test_jitter_makes_more_staleness_pay_and_depends_on_the_seed_alone(mspipe):
    arguments = ("--tau", "1,1,1,5,6", "--jitter", 0.3)
    result = ran(mspipe, *arguments)
    assert re.search(r"k\* +1 .*; up to [234] with jitter", result.stdout)
    assert ran(mspipe, *arguments, "--seed", 0).stdout == result.stdout
    assert ran(mspipe, *arguments, "--seed", 1).stdout != result.stdout


def test_the_trace_is_that_of_the_simulation(mspipe, files):
    ran(mspipe, "--tau", "1,2,3,5,3", "--batches", 50, "--timeline", "out.json")
    assert files() == ["out.json"]
    json.loads(Path("out.json").read_text())
    records = read_trace(Path("out.json"))
    assert [record.index for record in records] == list(range(50))
    assert records[40].begin["train"] - records[39].begin["train"] == pytest.approx(5e-3)
    assert records[40].duration("fetch") == pytest.approx(3e-3)
    assert {record.staleness for record in records[3:]} == {2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tau", "1,2,3"], "--tau has 3 durations; give five, for sample, gather, fetch, train, update"),
        (["--tau", "1,2,x,4,5"], "--tau is '1,2,x,4,5'; give five numbers, as in 1,2,3,5,3"),
        (["--tau", "1,2,-3,4,5"], "give durations of 0 or from 1e-06 ms on, one of them above 0"),
        (["--tau", "1e-320,0,0,0,0"], "give durations of 0 or from 1e-06 ms on"),
        (["--tau", "0,0,0,0,0"], "give durations of 0 or from 1e-06 ms on, one of them above 0"),
        (["--tau", "1,2,nan,4,5"], "give durations of 0 or from 1e-06 ms on"),
        (["--rows", "1.5"], "--rows is 1.5; give a share of training from 0 to 1"),
        (["--jitter", "-1"], "--jitter is -1.0; give a number from 0"),
        (["--batches", "1"], "--batches is 1; give at least 2"),
        (["--prefetch", "0"], "--prefetch is 0; give at least 1"),
        (["--mode", "fast"], "--mode: staleness is 'fast'; choose sequential, exact, minimal or a whole number from 0"),
        (["--timeline", "no/where.json"], "no/"),
    ],
)
def test_a_wrong_flag_is_one_line(mspipe, files, arguments, message):
    result = mspipe("simulate", "--tau", "1,2,3,5,3", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert files() == []
