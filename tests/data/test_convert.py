"""What is converted equals what is loaded into memory, however little memory there is, and whenever it is killed."""

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from folder_files import TINY, check_equal, events, write
from pyarrow import parquet

from pyg_mspipe.data import StreamError, append_stream, convert_stream, history_files, load_stream


@pytest.mark.parametrize("name", ["events.parquet", "events.npz", "events.csv"])
@pytest.mark.parametrize("memory", [TINY, 1 << 30])
def test_a_folder_equals_the_stream_in_memory(tmp_path, name, memory):
    path = write(tmp_path / name, events())
    convert_stream([path], tmp_path / "events.stream", memory=memory)
    check_equal(load_stream(path), tmp_path / "events.stream")
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([name, "events.stream"])


def test_more_events_than_32_bits_count_are_written_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(history_files, "NARROW", 100)
    path = write(tmp_path / "events.npz", events())
    convert_stream([path], tmp_path / "events.stream", memory=TINY)
    check_equal(load_stream(path), tmp_path / "events.stream")


@pytest.mark.parametrize("name", ["events.parquet", "events.csv"])
@pytest.mark.parametrize(
    "options",
    [{}, {"relabel": True}, {"bipartite": True}, {"relabel": True, "bipartite": True}, {"time_scale": 1000}],
    ids=str,
)
def test_events_out_of_order_are_sorted_as_in_memory(tmp_path, name, options):
    path = write(tmp_path / name, events(shuffled=True))
    convert_stream([path], tmp_path / "events.stream", memory=TINY, sort=True, **options)
    check_equal(load_stream(path, sort=True, **options), tmp_path / "events.stream")


@pytest.mark.parametrize("name", ["events.parquet", "events.csv", "events.npz"])
@pytest.mark.parametrize("bipartite", [False, True])
def test_texts_are_numbered_as_in_memory_and_kept(tmp_path, name, bipartite):
    path = write(tmp_path / name, events(texts=True))
    folder = convert_stream([path], tmp_path / "e.stream", memory=1 << 18, relabel=True, bipartite=bipartite)
    want = load_stream(path, relabel=True, bipartite=bipartite)
    check_equal(want, tmp_path / "e.stream")
    files = ["source_ids.parquet", "destination_ids.parquet"] if bipartite else ["ids.parquet"]
    ids = [each for file in files for each in parquet.read_table(folder.path / file)["id"].to_pylist()]
    table = events(texts=True)
    for side in ("src", "dst"):
        kept = [ids[each] for each in want[side].tolist()]
        assert kept == [text.removesuffix(".0") for text in table[side].tolist()]


@pytest.mark.parametrize("kind", [np.int64, np.float64, np.uint64, object])
def test_whole_numbers_of_any_kind_are_numbered_as_in_memory(tmp_path, kind):
    large = 2**53 - 1 if kind is np.float64 else 2**64 - 1 if kind in (np.uint64, object) else 2**63 - 1
    src, dst = [5, large, 5, 0, 12, 5] * 40, [large, 3, 12, 0, 5, 7] * 40
    values = {
        name: pa.array(np.array(side, dtype=np.uint64 if kind is object else kind))
        for name, side in (("src", src), ("dst", dst))
    }
    if kind is object:
        values = {name: each.cast(pa.string()) for name, each in values.items()}
    path = tmp_path / "e.parquet"
    parquet.write_table(pa.table(values | {"t": list(range(240))}), path)
    convert_stream([path], tmp_path / "e.stream", memory=1 << 18, relabel=True)
    check_equal(load_stream(path, relabel=True), tmp_path / "e.stream")


def test_many_files_patterns_and_folders_are_one_stream(tmp_path):
    table = events()
    (tmp_path / "parts").mkdir()
    for part in range(3):
        rows = slice(part * 1000, (part + 1) * 1000)
        write(tmp_path / "parts" / f"{part}.parquet", {name: values[rows] for name, values in table.items()})
    want = load_stream(write(tmp_path / "whole.npz", table))
    for inputs in ([tmp_path / "parts"], [f"{tmp_path}/parts/*.parquet"], sorted((tmp_path / "parts").iterdir())):
        convert_stream(inputs, tmp_path / "e.stream", memory=TINY, overwrite=True)
        check_equal(want, tmp_path / "e.stream")


@pytest.mark.parametrize("relabel", [False, True])
def test_a_column_of_text_whose_kind_shows_late_is_read_as_in_memory(tmp_path, relabel):
    table = events(20_000)
    table["y"] = [*([""] * 15_000), *([1] * 4_999), 0.5]
    table["t"] = table["t"].tolist()
    path = tmp_path / "e.csv"
    rows = zip(*(np.asarray(values, dtype=object).tolist() for values in table.values()), strict=True)
    path.write_text("\n".join([",".join(table), *(",".join(map(str, row)) for row in rows)]) + "\n")
    folder = convert_stream([path], tmp_path / "e.stream", memory=1 << 20, relabel=relabel)
    want, got = load_stream(path, relabel=relabel), load_stream(tmp_path / "e.stream")
    assert torch.equal(want.y.nan_to_num(-1), got.y.nan_to_num(-1))
    assert torch.equal(want.src, got.src)
    if relabel:
        assert len(parquet.read_table(folder.path / "ids.parquet")) == folder.num_nodes


def test_ids_that_differ_in_blanks_alone_are_refused(tmp_path):
    path = write(tmp_path / "e.npz", {"src": np.array(["a", "b "]), "dst": np.array(["b", "c"]), "t": np.arange(2)})
    with pytest.raises(StreamError, match="differ in blanks alone"):
        convert_stream([path], tmp_path / "e.stream", relabel=True)


def test_comments_blanks_and_numbers_for_columns_are_read_as_in_memory(tmp_path):
    path = tmp_path / "contacts.txt"
    path.write_text("% a comment\n" + "".join(f"{i % 5} \t {i % 7 + 5} {i}\n" for i in range(900)) + "\n")
    options = {"columns": {"src": 0, "dst": 1, "t": 2}}
    convert_stream([path], tmp_path / "e.stream", memory=TINY, **options)
    check_equal(load_stream(path, **options), tmp_path / "e.stream")


def test_messages_of_float16_are_kept_and_read_in_float32(tmp_path):
    table = events(600)
    table["msg_0"], table["msg_1"] = (table[name].astype(np.float16) for name in ("msg_0", "msg_1"))
    path = write(tmp_path / "e.npz", table)
    folder = convert_stream([path], tmp_path / "e.stream", memory=TINY, half=True)
    want = load_stream(path)
    assert folder.data.msg.dtype == torch.float16
    assert torch.equal(folder.data.msg.float(), want.msg)
    assert folder.manifest["fingerprint"]["stream"] == _fingerprint(want)


def _fingerprint(data):
    from pyg_mspipe.training.checkpoint import fingerprint

    return fingerprint(data)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"src": [0, -4, 2]}, "event 1: src is -4, a negative node id"),
        ({"t": [1, 2.5, 3]}, "event 1: t is 2.5, not a whole number"),
        ({"t": [1, 3, 2]}, "event 2: t decreases from 3 to 2; sort the stream or pass sort=True"),
        ({"msg_0": [1.0, 2.0, float("inf")]}, "event 2: msg is inf"),
        ({"src": [0, 1, 2**40]}, "ids go up to 1099511627776, and each takes a row; pass relabel=True"),
    ],
)
def test_what_no_stream_holds_is_refused_with_its_event(tmp_path, change, says):
    path = write(
        tmp_path / "e.parquet",
        {n: np.array(v) for n, v in ({"src": [0, 1, 2], "dst": [3, 4, 5], "t": [1, 2, 3]} | change).items()},
    )
    with pytest.raises(StreamError, match=says.replace("(", r"\(")):
        convert_stream([path], tmp_path / "e.stream")
    assert not (tmp_path / "e.stream").exists()


def test_a_decrease_between_two_files_is_refused(tmp_path):
    table = {"src": np.arange(3), "dst": np.arange(3), "t": np.arange(3)}
    one, other = write(tmp_path / "1.npz", table | {"t": table["t"] + 5}), write(tmp_path / "2.npz", table)
    with pytest.raises(StreamError, match=r"2.npz: event 0: t decreases from 7 to 0"):
        convert_stream([one, other], tmp_path / "e.stream")


@pytest.mark.parametrize("memory", [TINY, 1 << 28])
@pytest.mark.parametrize("options", [{}, {"relabel": True}, {"bipartite": True}], ids=str)
def test_appended_events_stand_as_if_converted_at_once(tmp_path, memory, options):
    table = events()
    whole = write(tmp_path / "whole.npz", table)
    ends = [0, 1300, 1301, 3000]
    parts = [
        write(tmp_path / f"{start}.parquet", {name: values[start:stop] for name, values in table.items()})
        for start, stop in itertools.pairwise(ends)
    ]
    folder = convert_stream(parts[:1], tmp_path / "e.stream", memory=memory, **options)
    before = folder.data
    kept = before.t.clone()
    for part in parts[1:]:
        append_stream(tmp_path / "e.stream", [part], memory=memory)
    check_equal(load_stream(whole, **options), tmp_path / "e.stream")
    assert torch.equal(before.t, kept)  # who has it open sees what it was
    assert np.load(tmp_path / "e.stream" / "t.npy").shape == (3000,)


def test_appending_refuses_what_comes_before_or_moves_destinations(tmp_path):
    table = {"src": np.array([0, 1]), "dst": np.array([0, 1]), "t": np.array([5, 6])}
    first = write(tmp_path / "1.npz", table)
    early = write(tmp_path / "2.npz", table)
    new = write(tmp_path / "3.npz", table | {"src": np.array([0, 2]), "t": np.array([6, 7])})
    convert_stream([first], tmp_path / "e.stream", bipartite=True)
    with pytest.raises(StreamError, match="event 0: t decreases from 6 to 5"):
        append_stream(tmp_path / "e.stream", [early])
    with pytest.raises(StreamError, match="new sources"):
        append_stream(tmp_path / "e.stream", [new])
    check_equal(load_stream(first, bipartite=True), tmp_path / "e.stream")


KILLED = """
    import os, signal, sys
    from pyg_mspipe.data import append_stream, convert, convert_stream

    def die(*args, **options):
        os.kill(os.getpid(), signal.SIGKILL)

    what, where, out = sys.argv[1:4]
    if where == "second block":
        add = convert.EventWriter.add
        calls = []
        convert.EventWriter.add = lambda *args: die() if len(calls) == 2 else (calls.append(0), add(*args))
    else:
        setattr(convert, where, die)
    if what == "convert":
        convert_stream(sys.argv[4:], out, memory=20_000, sort=True)
    else:
        append_stream(out, sys.argv[4:], memory=20_000)
"""


def killed(*args):
    """Runs a conversion that kills itself at some point, and sees that it did."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), *map(str, args)], env=environment, check=False
    )
    assert done.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("where", ["second block", "sort_by_time", "write_history", "atomic_write"])
def test_a_killed_conversion_leaves_no_folder_and_the_next_starts_clean(tmp_path, where):
    path = write(tmp_path / "e.parquet", events(shuffled=True))
    out = tmp_path / "e.stream"
    killed("convert", where, out, path)
    assert not out.exists()
    (part,) = tmp_path.glob("e.stream.part-*")
    with pytest.raises(StreamError, match="is what a conversion that was cut off has left"):
        load_stream(part)
    convert_stream([path], out, memory=TINY, sort=True)
    check_equal(load_stream(path, sort=True), out)
    assert not list(tmp_path.glob("*.part-*"))


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("where", ["second block", "write_history", "atomic_write", "write_header"])
def test_a_killed_append_leaves_the_old_stream_or_the_new(tmp_path, where):
    table = events()
    whole = write(tmp_path / "whole.npz", table)
    old, new = (
        write(tmp_path / f"{rows.start}.parquet", {name: values[rows] for name, values in table.items()})
        for rows in (slice(0, 2000), slice(2000, 3000))
    )
    out = tmp_path / "e.stream"
    convert_stream([old], out, memory=TINY)
    killed("append", where, out, new)
    if where == "write_header":  # the manifest is there, and with it the new events
        check_equal(load_stream(whole), out)
        return
    check_equal(load_stream(old), out)
    append_stream(out, [new], memory=TINY)
    check_equal(load_stream(whole), out)
    assert len(json.loads((out / "manifest.json").read_text())["columns"]) == len(list(out.glob("*.npy")))


def test_a_full_disk_leaves_nothing_and_is_told_with_its_file(tmp_path, monkeypatch):
    def full(descriptor, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = write(tmp_path / "e.npz", events(600))
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match=r"No space left on device: .*\.npy"):
        convert_stream([path], tmp_path / "e.stream")
    assert [each.name for each in tmp_path.iterdir()] == ["e.npz"]


def test_a_folder_is_replaced_only_when_that_is_asked_for(tmp_path):
    path = write(tmp_path / "e.npz", events(600))
    convert_stream([path], tmp_path / "e.stream")
    with pytest.raises(StreamError, match="exists"):
        convert_stream([path], tmp_path / "e.stream")
    (tmp_path / "other.stream").mkdir()
    with pytest.raises(StreamError, match="is no stream folder"):
        convert_stream([path], tmp_path / "other.stream", overwrite=True)
    with pytest.raises(StreamError, match=r"ends in \.stream"):
        convert_stream([path], tmp_path / "e")
