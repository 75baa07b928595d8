"""The commands that make stream folders, and all others on one."""

from pathlib import Path

import numpy as np
import pytest

from pyg_mspipe.data import synthetic


@pytest.fixture
def events(tmp_path):
    data = synthetic(600, num_src=20, num_dst=20, msg_dim=2)
    arrays = {name: data[name].numpy() for name in ("src", "dst", "t", "msg")}
    np.savez(tmp_path / "events.npz", **arrays)
    return "events.npz"


def test_every_command_takes_a_folder_in_place_of_a_file(mspipe, train, events):
    made = mspipe("data", "convert", events, "events.stream", "--memory", "64KiB")
    assert made.exit_code == 0, made.stderr
    assert made.stdout == "events.stream: 600 events, 40 nodes, 0.08 MB\n"
    assert "600" in mspipe("data", "info", "events.stream").stdout
    one = train(events, "--out", "one")
    other = train("events.stream", "--out", "other")
    assert one.stdout.splitlines()[-1].replace("one", "RUN") == other.stdout.splitlines()[-1].replace("other", "RUN")
    tables = [mspipe("evaluate", run).stdout.splitlines()[1:] for run in ("one", "other")]
    assert tables[0] == tables[1] != []
    assert mspipe("resume", "other", "--epochs", "2").exit_code == 0
    assert mspipe("resume", "one", "--epochs", "2", "--stream", "events.stream").exit_code == 0
    assert mspipe("baseline", "events.stream").exit_code == 0
    assert mspipe("plan", "--auto", "events.stream", "--world", "2").exit_code == 0


def test_appending_reads_files_as_they_were_converted(mspipe):
    for name, times in (("a", (1, 2)), ("b", (3, 4))):
        rows = "".join(f"{name}{t},x,{t}.5\n" for t in times)
        with Path(f"{name}.csv").open("w") as file:
            file.write(f"user,item,ts\n{rows}")
    flags = ["--src", "user", "--dst", "item", "--time", "ts", "--time-scale", "10", "--relabel"]
    assert mspipe("data", "convert", "a.csv", "c.stream", *flags).exit_code == 0
    done = mspipe("data", "append", "c.stream", "b.csv")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("c.stream: 4 events, 5 nodes")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["convert", "none.csv", "e.stream"], "none.csv does not exist"),
        (["convert", "none*.csv", "e.stream"], "stands for no file"),
        (["convert", "events.npz", "e.stream", "--memory", "much"], "--memory is 'much'"),
        (["convert", "events.npz", "e"], "the name of a stream folder ends in .stream"),
        (["append", "none.stream", "events.npz"], "none.stream does not exist"),
        (["info", "none.stream"], "none.stream does not exist"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(mspipe, events, args, says):
    done = mspipe("data", *args)
    assert done.exit_code == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
