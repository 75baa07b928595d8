"""Each benchmark runs, quickly; what its figures are is no matter here."""

import json
import multiprocessing
import subprocess
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
from processes import popen_forked, run_forked
from rich.console import Console
from typer.testing import CliRunner

from benchmarks import busy_machine
from benchmarks.__main__ import app
from benchmarks.harness import turns
from benchmarks.harness.benchmark import changed
from benchmarks.harness.machine import describe_machine
from benchmarks.harness.results import path_of, write_result
from benchmarks.registry import BENCHMARKS
from pyg_mspipe.data import synthetic


def benchmarks(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """A file of a few events."""
    path, data = tmp_path_factory.mktemp("stream") / "few.npz", synthetic(1_500, num_src=100, num_dst=100)
    np.savez(path, **{name: data[name].numpy() for name in ("src", "dst", "t", "msg")})
    return str(path)


# One of those that differ in their settings alone stands for all.
@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name != "parallel_rate_two_layers"])
def test_a_benchmark_runs_and_writes_its_result(name, stream, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", run_forked)
    monkeypatch.setattr(turns, "subprocess", SimpleNamespace(Popen=popen_forked))
    forks = multiprocessing.get_context("forkserver")
    monkeypatch.setattr(multiprocessing, "get_context", lambda kind: forks)
    reason = BENCHMARKS[name].why_not()
    if reason:
        pytest.skip(reason)
    settings = {field.name for field in fields(BENCHMARKS[name].quick)}
    changes = dict.fromkeys(settings & {"stream", "streams"}, stream)
    written = write_result(BENCHMARKS[name].run(Console(quiet=True), quick=True, changes=changes), tmp_path)
    assert written == tmp_path / "quick" / f"{name}.json"
    result = json.loads(written.read_text())
    assert result["benchmark"] == name
    assert result["quick"]
    assert result["seconds"] >= 0
    assert result["peak_rss"] > 0
    assert result["machine"]["cores"] >= 1


def test_one_is_run_by_its_name_with_another_setting(tmp_path):
    done = benchmarks("run", "sampling", "--quick", "--set", "batches=3", "--results", tmp_path)
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "quick" / "sampling.json").read_text())["settings"]["batches"] == 3


def test_what_is_compared_on_a_busy_machine_is_chosen_by_name():
    for name in busy_machine.KINDS:
        assert changed(busy_machine.Settings(), {"kinds": f"one thread,{name}"}).kinds == ("one thread", name)
    spinning = {name: more["GOMP_SPINCOUNT"] for name, (_, more) in busy_machine.KINDS.items() if "SPIN" in name}
    assert (
        [name.rpartition("=")[2] for name in spinning]
        == list(spinning.values())
        == list(map(str, busy_machine.SPIN_COUNTS))
    )


def test_those_that_have_a_result_are_not_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", run_forked)
    machine = describe_machine()
    for name in BENCHMARKS:
        path = path_of(name, machine, True, tmp_path)
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    args = ["run", "--missing", "--quick", "--results", tmp_path]
    assert "every benchmark has a result" in benchmarks(*args).stdout
    path_of("sampling", machine, True, tmp_path).unlink()
    done = benchmarks(*args)  # in a process of its own, `python -m benchmarks run sampling`
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("[1/1] sampling\n")
    assert json.loads(path_of("sampling", machine, True, tmp_path).read_text())["quick"]


def test_all_are_listed():
    done = benchmarks("list")
    assert done.exit_code == 0
    assert all(name in done.stdout for name in BENCHMARKS)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run"], "give names of benchmarks, or --all"),
        (["run", "speed"], "there is no benchmark 'speed'; there are tgn_training, "),
        (["run", "sampling", "--all"], "give names or --all, not both"),
        (["run", "sampling", "--quick", "--set", "speed=1"], "there is no setting 'speed'; there are stream, "),
        (["run", "sampling", "--quick", "--set", "batches=few"], "batches='few' cannot be read; it is 10 by default"),
        (["compare", "/nowhere", "/nowhere"], "/nowhere has no results"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(args, said):
    done = benchmarks(*args)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: {said}"), done.stderr
    assert done.stderr.count("\n") == 1


def test_pages_say_what_the_results_do():
    done = benchmarks("report", "--check")
    assert done.exit_code == 0, done.output
