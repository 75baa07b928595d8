from pathlib import Path

import numpy as np
import pytest
from small_commands import SMALL


def changed(values, event, value):
    values = values.astype(np.result_type(values, type(value)))
    values[event] = value
    return values


# Each is a name, what of the good stream's arrays is replaced, and what the message says.
ARRAYS = {
    "src and dst of different lengths": (lambda a: {"dst": a["dst"][:-1]}, "src has 400 entries and dst 399"),
    "t of another length": (lambda a: {"t": a["t"][:-1]}, "the lengths of the fields differ (src 400, dst 400, t 399"),
    "msg of another length": (lambda a: {"msg": a["msg"][1:]}, "the lengths of the fields differ"),
    "a negative id": (lambda a: {"dst": changed(a["dst"], 7, -1)}, "event 7: dst is -1, a negative node id"),
    "a fractional id": (lambda a: {"src": changed(a["src"], 3, 2.5)}, "event 3: src is 2.5, not a whole number"),
    "a missing id": (lambda a: {"src": changed(a["src"], 3, float("nan"))}, "event 3: src is nan"),
    "ids that are texts": (lambda a: {"src": a["src"].astype(str)}, "column 'src' holds '"),
    "t that decreases": (lambda a: {"t": changed(a["t"], 9, 0)}, "event 9: t decreases from"),
    "t that is fractional": (lambda a: {"t": changed(a["t"], 9, a["t"][9] + 0.5)}, "event 9: t is"),
    "a nan feature": (lambda a: {"msg": changed(a["msg"], (5, 1), float("nan"))}, "event 5: msg is nan in column 1"),
    "an infinite feature": (lambda a: {"msg": changed(a["msg"], (5, 0), float("inf"))}, "event 5: msg is inf in col"),
    "no events": (lambda a: {name: value[:0] for name, value in a.items()}, "the stream is empty; give it at least"),
    "no src": (lambda a: {"src": None, "source": a["src"]}, "has no column 'src'; it has 'dst', 't', 'msg', 'source'"),
    "objects": (lambda a: {"src": np.array([None] * 400)}, "array 'src' cannot be read"),
}
FILES = {
    "events.bin": (b"src,dst\n0,1\n", "the format of 'events.bin' is not known; use one of .csv"),
    "events.npz": (b"events", "cannot be read"),
    "events.parquet": (b"PAR1 is how a parquet file begins", "cannot be read"),
    "events.csv.gz": (b"\x1f\x8b is how a gzip file begins", "cannot be read"),
    "empty.csv": (b"", "cannot be read"),
    "events.csv": (b"src,dst,t\n0,1,2\n  \n3,4\n", "line 4 has 2 columns, the first line 3: make them the same"),
    "latin.csv": ("user,price\n1,é\n".encode("latin-1"), "has no column 'src', 'dst', 't'"),
    "names.csv": ("src,dst,t,prix_é\n0,1,2,3\n".encode("latin-1"), "the first line is not in UTF-8; save the file"),
    "ids.csv": ("src,dst,t\n0,1,2\né,4,5\n".encode("latin-1"), "event 1 (line 3): column 'src' is not in UTF-8"),
    "header.csv": (b"src,dst,t\n", "the stream is empty"),
    "columns.csv": (b"user,item,ts\n0,1,2\n", "has no column 'src', 'dst', 't'; it has 'user', 'item', 'ts'"),
}
NAMES = {
    "wikipedai": "no stream is named 'wikipedai'; did you mean 'wikipedia'?",
    "tgbl-wikki": "did you mean 'tgbl-wiki'?",
    "qqq": "no stream is named 'qqq'; known are wikipedia, reddit",
    "nowhere.csv": "nowhere.csv does not exist; give the path of a file",
    "no/where.npz": "no/where.npz does not exist",
    ".": ". is a folder; give the path of a file",
    "": "is a folder; give the path",
    "nul\0.csv": "does not exist",
}


def refused(mspipe, files, stream, message, *options):
    """Asserts that neither training nor a look at the stream goes further than one line, and what mends it."""
    before = files()
    for command, mark in ((["train", stream, *SMALL], "error:"), (["data", "info", stream], "problem:")):
        result = mspipe(*command, *options)
        assert result.exit_code == 2, result
        assert result.stdout == ""
        problem, *mend = result.stderr.splitlines()
        assert problem.startswith(("error: ", f"{mark} "))
        assert not mend or (len(mend) == 1 and mend[0].startswith(f"to mend it: mspipe {command[0]} ")), result.stderr
        assert message in result.stderr
        assert files() == before


@pytest.mark.parametrize(("replace", "message"), list(ARRAYS.values()), ids=ARRAYS)
def test_events_that_cannot_be_used_are_refused_in_one_line(mspipe, files, npz, arrays, replace, message):
    refused(mspipe, files, npz(**replace(arrays)), message)


@pytest.mark.parametrize(("name", "content", "message"), [(name, *rest) for name, rest in FILES.items()], ids=FILES)
def test_files_that_cannot_be_read_are_refused_in_one_line(mspipe, files, name, content, message):
    Path(name).write_bytes(content)
    refused(mspipe, files, name, message)


@pytest.mark.parametrize(("name", "message"), list(NAMES.items()), ids=map(repr, NAMES))
def test_streams_that_are_not_there_are_refused_in_one_line(mspipe, files, name, message):
    refused(mspipe, files, name, message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--src", "user"], "has no column 'user'; it has 'src', 'dst', 't', 'msg'"),
        (["--msg", "price"], "has no column 'price'"),
        (["--time-scale", "0"], "time_scale is 0.0; give a positive factor"),
        (["--time-scale", "nan"], "time_scale is nan; give a positive factor"),
    ],
)
def test_options_that_do_not_fit_a_file_are_refused_in_one_line(mspipe, files, npz, options, message):
    refused(mspipe, files, npz(), message, *options)


def test_options_of_files_are_refused_for_names(mspipe, files):
    message = (
        "synthetic: leave out --src, --dst, --time, --msg, --label and --columns, --relabel, which only files take"
    )
    refused(mspipe, files, "synthetic", message, "--relabel", "--src=a")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--val-ratio", "0.00001"], "the validation split has no events: 400 events between times"),
        (["--val-ratio", "0"], "--val-ratio is 0.0; give a fraction between 0 and 1"),
        (["--val-ratio", "0.5", "--test-ratio", "0.5"], "leave nothing to train on; their sum must be below 1"),
        (["--val-time", "5"], "--val-time is given without --test-time; give both times"),
        (["--val-time", "5", "--test-time", "4"], "--val-time 5 lies after --test-time 4; swap them"),
        (["--val-time", "-9", "--test-time", "4"], "the training split has no events"),
    ],
)
def test_a_split_without_events_is_refused_in_one_line(mspipe, files, npz, options, message):
    name = npz()
    before = files()
    result = mspipe("train", name, *SMALL, *options)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert files() == before


def test_events_of_one_time_cannot_be_split_but_looked_at(mspipe, files, npz, arrays):
    name = npz(t=np.zeros_like(arrays["t"]))
    before = files()
    result = mspipe("train", name, *SMALL)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: the validation split has no events")
    shown = mspipe("data", "info", name)
    assert shown.exit_code == 0
    assert "warning: all events have the same time" in shown.stdout
    assert files() == before


def test_all_problems_of_a_stream_are_listed_at_once(mspipe, npz, arrays):
    name = npz(
        src=changed(arrays["src"], 7, -1),
        dst=changed(changed(arrays["dst"], 3, 0.5), 4, float("nan")),
        t=changed(arrays["t"], 9, 0),
        msg=changed(arrays["msg"], (2, 1), float("nan")),
    )
    result = mspipe("data", "info", name)
    assert (result.exit_code, result.stdout) == (2, "")
    before = f"problem: {Path(name).resolve()}: "
    lines = result.stderr.splitlines()
    assert all(line.startswith(before) for line in lines)
    assert [line.removeprefix(before).split(";")[0] for line in lines] == [
        "event 7: src is -1, a negative node id",
        "event 4: dst is nan",
        "event 3: dst is 0.5, not a whole number",
        f"event 9: t decreases from {arrays['t'][8]} to 0",
        "event 2: msg is nan in column 1, not finite",
    ]
    with_sort = mspipe("data", "info", name, "--sort")
    assert with_sort.exit_code == 2
    assert "t decreases" not in with_sort.stderr
    assert len(with_sort.stderr.splitlines()) == 4


def test_what_is_wrong_behind_ids_that_are_texts_is_listed_too(mspipe):
    Path("clicks.csv").write_text("src,dst,t,msg\nanna,shop,5,1\nben,shop,3,\n")
    result = mspipe("data", "info", "clicks.csv")
    assert (result.exit_code, result.stdout) == (2, "")
    ids, order, message = (line.split("clicks.csv: ")[1] for line in result.stderr.splitlines())
    assert ids.startswith("event 0 (line 2): column 'src' holds 'anna', not integer ids; pass --relabel")
    assert order.startswith("event 1 (line 3): t decreases from 5 to 3")
    assert message.startswith("event 1 (line 3): msg is nan in column")


def test_columns_that_are_not_used_are_named(mspipe, train):
    Path("clicks.csv").write_text("src,dst,t,price,shop\n" + "".join(f"{n % 7},{n % 5},{n},1,2\n" for n in range(100)))
    note = "columns not used: 'price', 'shop'; --msg NAME, once for each, reads columns as features"
    assert note in mspipe("data", "info", "clicks.csv").stdout
    assert "not used: 'shop';" in mspipe("data", "info", "clicks.csv", "--msg", "price").stdout
    assert "not used" not in mspipe("data", "info", "clicks.csv", "--msg", "price", "--label", "shop").stdout
    assert note in train("clicks.csv", "--out", "run").stdout
    assert "not used" not in train("clicks.csv", "--msg", "price", "--out", "other").stdout


def test_texts_are_not_recommended_as_features(mspipe):
    Path("clicks.csv").write_text("src,dst,t,price,land\n" + "".join(f"{n % 7},{n % 5},{n},1,DE\n" for n in range(100)))
    found = mspipe("data", "info", "clicks.csv").stdout
    assert "not used: 'price', 'land'; --msg NAME, once for each, reads those that hold numbers as features" in found
    found = mspipe("data", "info", "clicks.csv", "--msg", "price").stdout
    assert "not used: 'land'; they hold texts, and features must be numbers" in found


@pytest.mark.parametrize("node", [10**12, 2**62])
def test_ids_that_memory_cannot_hold_are_refused_with_the_way_out(mspipe, files, npz, arrays, node):
    name = npz(src=changed(arrays["src"], 7, node))
    before = files()
    result = mspipe("train", name, *SMALL)
    assert (result.exit_code, result.stdout.count("\n"), result.stderr.count("\n")) == (2, 1, 1)
    assert result.stdout.startswith("400 events, ")
    assert result.stderr.startswith("error: memory does not suffice")
    assert "--relabel" in result.stderr
    assert files() == before
    assert mspipe("train", name, *SMALL, "--relabel").exit_code == 0


def test_debug_shows_the_traceback(mspipe, npz, arrays):
    name = npz(t=changed(arrays["t"], 9, 0))
    for command in (["train", name, *SMALL], ["data", "info", "qqq"]):
        result = mspipe("--debug", *command)
        assert result.exit_code == 1
        assert type(result.exception).__name__ == "StreamError"
    assert not Path("runs").exists()
    assert mspipe("train", name, *SMALL).exit_code == 2
