"""Opening of stream folders: nothing is read, and what is wrong is told in one line."""

import copy
import io
import json
import shutil

import numpy as np
import pytest
import torch
from folder_files import events, write

from pyg_mspipe.data import EventGroups, StreamError, check_stream, convert_stream, load_stream, split_stream
from pyg_mspipe.data.stream_folder import RANGE_BLOCK, destination_range, folder_of, num_nodes_of


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    path = write(folder / "e.npz", events())
    return path, convert_stream([path], folder / "e.stream").path


@pytest.fixture
def out(made, tmp_path):
    return shutil.copytree(made[1], tmp_path / "e.stream")


@pytest.mark.parametrize("name", ["src", "t", "msg", "y", "key", "indptr", "loops"])
def test_a_file_that_was_cut_off_is_told(out, name):
    path = out / f"{name}.npy"
    path.write_bytes(path.read_bytes()[:-8] if path.stat().st_size > 4096 else b"")
    with pytest.raises(StreamError, match=rf"{name}.npy has \d+ bytes of \d+; it was cut off: convert"):
        load_stream(out)


@pytest.mark.parametrize("name", ["dst", "msg", "neighbor"])
def test_a_file_that_is_missing_is_told(out, name):
    (out / f"{name}.npy").unlink()
    with pytest.raises(StreamError, match=rf"lacks {name}.npy; convert the stream again"):
        load_stream(out)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 7}, "format version 7, this version reads 1; convert the stream again"),
        ({"format": "other"}, "is not the manifest of a stream folder"),
        ({"columns": {}}, "lacks src.npy, dst.npy"),
        ({"columns": 3}, "is damaged"),
        ({"fingerprint": None}, "is damaged"),
    ],
)
def test_another_manifest_is_told(out, change, says):
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(StreamError, match=says):
        load_stream(out)


def test_other_folders_and_none_are_told(tmp_path, out):
    (out / "manifest.json").write_text("{")
    with pytest.raises(StreamError, match="is damaged"):
        load_stream(out)
    (out / "manifest.json").unlink()
    with pytest.raises(
        StreamError, match=r"is a folder; give the path of a file, or of a stream folder that has its manifest"
    ):
        load_stream(out)
    with pytest.raises(StreamError, match="does not exist"):
        load_stream(tmp_path / "none.stream")
    with pytest.raises(StreamError, match="leave out columns, relabel, which only files take"):
        load_stream(out, columns={"src": "a"}, relabel=True)


def saved(tensor):
    file = io.BytesIO()
    torch.save(tensor, file)
    return file.getvalue()


def test_a_folder_is_trusted_as_long_as_its_columns_are_its_own(out):
    data = load_stream(out)
    assert check_stream(data) is data
    assert folder_of(data[:100]) is None
    data.msg = torch.zeros(data.num_events, 1)
    assert folder_of(data) is not None
    assert folder_of(data, messages=True) is None
    copied = copy.deepcopy(load_stream(out))
    assert folder_of(copied) is None
    assert torch.equal(copied.t, data.t)
    assert torch.load(io.BytesIO(saved(data.src)), weights_only=True).equal(data.src)
    data.t[5] += 1  # stays in memory, and is no longer the folder's
    assert folder_of(data) is None
    assert int(load_stream(out).t[5]) == int(data.t[5]) - 1


def test_what_the_folder_knows_equals_what_is_counted(made):
    stream, folder = load_stream(made[0]), load_stream(made[1])
    split = split_stream(stream)
    assert split_stream(folder) == split
    assert num_nodes_of(folder) == stream.num_nodes
    for events_ in (split.val, split.test, range(1), range(5, 900)):
        one, other = EventGroups.of(stream, split).masks(events_), EventGroups.of(folder, split).masks(events_)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_ranges_of_destinations_hold_at_and_between_blocks(tmp_path):
    count = 2 * RANGE_BLOCK + 100
    dst = np.random.default_rng(0).permutation(count)
    table = {"src": np.zeros(count, dtype=np.int64), "dst": dst, "t": np.arange(count)}
    data = convert_stream([write(tmp_path / "e.npz", table)], tmp_path / "e.stream").data
    for stop in (1, 99, RANGE_BLOCK, RANGE_BLOCK + 1, 2 * RANGE_BLOCK, count):
        assert destination_range(data, stop) == (dst[:stop].min(), dst[:stop].max())


def test_quantiles_of_sorted_times_are_numpys(tmp_path):
    from pyg_mspipe.data.splits import _sorted_quantile

    rng = np.random.default_rng(0)
    for length in (1, 2, 3, 7, 100, 12_345):
        t = np.sort(rng.integers(-(10**12), 10**12, length))
        for share in (0.7, 0.85, 1 / 3, 0.999, 1.0 - 0.15 - 0.15):
            assert _sorted_quantile(torch.from_numpy(t), share) == np.quantile(t, share)
