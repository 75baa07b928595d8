"""Files of text as people have them, from the command line."""

import gzip
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from small_commands import SMALL

from pyg_mspipe.data import load_stream
from pyg_mspipe.training import load_checkpoint


def shown(mspipe, *arguments):
    result = mspipe("data", "info", *arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def problems(mspipe, *arguments):
    """The problems that a look at a stream finds, and the words of the command that mends them, if there is one."""
    result = mspipe("data", "info", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    mend = [shlex.split(line.removeprefix("to mend it: ")) for line in lines if line.startswith("to mend it: ")]
    assert len(mend) < 2
    found = [line.removeprefix("problem: ") for line in lines[: len(lines) - len(mend)]]
    return found, mend[0] if mend else None


def test_one_command_reads_a_file_without_header_unsorted_with_texts_as_ids(mspipe, train):
    rows = [f"u{n % 7} v{n % 5} {200 - n}" for n in range(100)]
    Path("clicks.txt.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    how = ["--columns", "0,1,2", "--sort", "--relabel"]
    assert "note: clicks.txt.gz is read as columns separated by blanks, no header" in shown(
        mspipe, "clicks.txt.gz", *how
    )
    trained = train("clicks.txt.gz", *how, "--out", "run")
    assert "clicks.txt.gz is read as columns separated by blanks, no header" in trained.stdout
    source = load_checkpoint(Path("run/last.pt"))["source"]
    assert source["columns"] == {"src": 0, "dst": 1, "t": 2}
    assert load_stream(**source).t.tolist() == list(range(101, 201))
    assert mspipe("evaluate", "run").exit_code == 0


def test_all_problems_come_with_the_one_command_that_mends_them(mspipe):
    Path("my clicks.txt").write_text("ann bob 5.5\nbob ann 4.25\ncy bob 9\n")
    found, command = problems(mspipe, "my clicks.txt", "--bipartite")
    marks = ["give --columns 0,1,2", "pass --relabel", "pass --time-scale 1000", "pass --sort"]
    assert len(found) == len(marks)
    assert all(mark in line for mark, line in zip(marks, found, strict=True))
    assert command[:5] == ["mspipe", "data", "info", "my clicks.txt", "--bipartite"]
    assert sorted(command[5:]) == sorted(["--columns", "0,1,2", "--relabel", "--time-scale", "1000", "--sort"])
    assert "4,250 to 9,000" in shown(mspipe, *command[3:])


def test_training_tells_all_problems_and_the_command_keeps_what_was_typed(mspipe, files):
    text = "user;item;time\n" + "".join(f"u{n % 7};v{n % 5};{99 - n}\n" for n in range(100))
    Path("clicks.csv").write_text(text)
    before = files()
    result = mspipe("train", "clicks.csv", *SMALL, "--lr", "0.01")
    assert (result.exit_code, result.stdout) == (2, "")
    *errors, mend = result.stderr.splitlines()
    assert len(errors) == 3
    assert all(line.startswith("error: ") for line in errors)
    assert files() == before
    command = shlex.split(mend.removeprefix("to mend it: "))
    assert command[:2] == ["mspipe", "train"]
    assert {"--no-tensorboard", "--lr", "0.01", "--relabel", "--sort", "--src", "user", "item", "time"} < set(command)
    done = mspipe(*command[1:], "--out", "run")
    assert done.exit_code == 0, done.stderr
    config = json.loads(json.dumps(load_checkpoint(Path("run/last.pt"))["config"]))
    assert (config["lr"], config["epochs"], config["eval_negatives"]) == (0.01, 1, 2)


def test_payments_with_bars_and_dates(mspipe):
    Path("pay.csv").write_text("from|to|amount|date\nann|bob|5|21-07-2015\nbob|cy|6|03-08-2015\n")
    found, command = problems(mspipe, "pay.csv", "--msg", "amount")
    assert found[-1].endswith("column 'date' holds '21-07-2015'; pass --time-format '%d-%m-%Y'")
    told = shown(mspipe, *command[3:])
    assert "2015-07-21 to 2015-08-03, days" in told
    assert "read as columns separated by bars" in told
    assert command.count("--msg") == 1


def test_a_command_that_flags_do_not_mend_is_not_proposed(mspipe):
    Path("clicks.csv").write_text("src,dst,t,msg\nann,shop,5,1\nben,shop,3,\n")
    found, command = problems(mspipe, "clicks.csv")
    assert (len(found), command) == (3, None)


def test_a_header_taken_for_data_is_refused_with_the_flags_for_its_names(mspipe):
    Path("e.tsv").write_text("from user\tto\tts\n1\t2\t3\n2\t3\t4\n")
    found, command = problems(mspipe, "e.tsv", "--columns", "0,1,2")
    assert found[0].endswith("looks like a header; use its names: give --src 'from user' --dst to --time ts")
    assert command[3:] == ["e.tsv", "--src", "from user", "--dst", "to", "--time", "ts"]
    shown(mspipe, *command[3:])


@pytest.mark.parametrize("mark", ["\t", " ", ";"])
def test_a_file_with_another_suffix_is_read_with_a_separator(mspipe, mark):
    Path("out.contact").write_text(f"% bip\n1{mark}2{mark}1{mark}7\n2{mark}3{mark}1{mark}8\n")
    found, command = problems(mspipe, "out.contact")
    assert "the format of 'out.contact' is not known" in found[0]
    assert "7 to 8 (relative)" in shown(mspipe, *command[3:])


def test_a_first_line_of_numbers_in_turn_is_told(mspipe):
    Path("e.csv").write_text("0,1,2\n5,6,7\n6,7,8\n")
    assert "its first line, 0,1,2, is an event: if it is a header, give --src 0" in shown(
        mspipe, "e.csv", "--columns", "0,1,2"
    )
    assert "events           2" in shown(mspipe, "e.csv", "--src", "0", "--dst", "1", "--time", "2")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--columns", "0,1"], "--columns is '0,1'; give the columns of sources, destinations and times, as in 0,1,2"),
        (["--columns", "a,b,c"], "--columns is 'a,b,c'; give the columns"),
        (["--columns", "0,1,9"], "has no column 9; it has 3 columns, 0, 1, 2"),
        (["--columns", "0,1,2", "--src", "a"], "--columns and --src are given; give --columns alone"),
        (["--columns", "0,1,2", "--msg", "price"], "'price' is no number; give --msg and --label numbers too"),
        (
            ["--columns", "0,1,2", "--separator", "tab"],
            "separator is 'tab'; give the one character between two columns",
        ),
        (
            ["--columns", "0,1,2", "--time-format", "%d-%m-%Y"],
            "column '2' holds '7', not a date of the form '%d-%m-%Y'",
        ),
        (["--columns", "0,1,2", "--time-format", "%Q"], "--time-format '%Q' is none"),
    ],
)
def test_flags_that_do_not_fit_are_refused_in_one_line(mspipe, flags, message):
    Path("e.txt").write_text("5 6 7\n6 7 8\n")
    result = mspipe("data", "info", "e.txt", *flags)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert message in result.stderr


@pytest.mark.parametrize(
    ("times", "told"),
    [
        (["2014-01-01", "2015-12-31"], "2014-01-01 to 2015-12-31, days"),
        (["2014-01-01 10:00", "2015-12-31 11:30"], "2014-01-01 10:00:00 to 2015-12-31 11:30:00 UTC, seconds"),
        (["1388534400000", "1388534401999"], "2014-01-01 00:00:00 to 2014-01-01 00:00:01 UTC, milliseconds"),
        (["16071", "16800"], "16,071 to 16,800 (relative)"),
    ],
)
def test_units_of_dates_are_named(mspipe, times, told):
    Path("e.csv").write_text(f"src,dst,t\n0,1,{times[0]}\n1,0,{times[1]}\n")
    assert told in shown(mspipe, "e.csv")


@pytest.mark.parametrize(
    ("unit", "told"), [("D", "2014-01-01 to 2014-02-01, days"), ("ns", "2014-02-01 00:00:00 UTC, nano")]
)
def test_units_of_dates_in_arrays_are_named(mspipe, unit, told):
    t = np.array(["2014-01-01", "2014-02-01"], dtype=f"datetime64[{unit}]")
    np.savez("e.npz", src=[0, 1], dst=[1, 0], t=t)
    assert told in shown(mspipe, "e.npz")


def test_ids_from_1269_to_1924_get_the_hint_of_relabel(mspipe):
    rows = [f"{1269 + n} {1269 + (n * 7 + 1) % 656} {n}" for n in range(656)]
    Path("primaryschool.txt").write_text("\n".join(rows))
    told = shown(mspipe, "primaryschool.txt", "--columns", "0,1,2")
    assert "1,925 (ids 1269 to 1924)" in told
    assert "warning: ids go from 1269 to 1924 but only 656 occur, and memory takes 1925 rows" in told
    assert "--relabel numbers them from 0" in told
    assert "warning: ids" not in shown(mspipe, "primaryschool.txt", "--columns", "0,1,2", "--relabel")
