import mmap
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch_geometric.data import TemporalData

from pyg_mspipe.data import MappedFeatures, NegativeSampler, StreamError, TensorFeatures, write_features
from pyg_mspipe.data.feature_store import requests
from pyg_mspipe.data.tensor_tree import map_tensors
from pyg_mspipe.graph import NeighborSampler, TemporalCSR
from pyg_mspipe.models import TGN
from pyg_mspipe.pipeline import Batches
from pyg_mspipe.tasks import LinkPrediction, Objective, train_step


def random_features(num_rows=500, width=7, dtype=torch.float32, seed=0):
    return torch.randn(num_rows, width, generator=torch.Generator().manual_seed(seed)).to(dtype)


def mapped(folder, x):
    write_features(folder / "x.npy", x)
    return MappedFeatures(folder / "x.npy")


@pytest.fixture(params=["tensor", "mapped", "mapped, no posix_fadvise"])
def store_of(request, tmp_path, monkeypatch):
    """Makes a store of each kind."""
    if request.param == "mapped, no posix_fadvise":
        monkeypatch.delattr(os, "posix_fadvise", raising=False)
    return TensorFeatures if request.param == "tensor" else lambda x: mapped(tmp_path, x)


# Reading


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("shape", [(500, 7), (3000, 172), (1, 1), (20, 5000)])
def test_rows_are_those_of_the_tensor_in_the_order_of_the_ids(store_of, shape, dtype):
    x = random_features(*shape, dtype)
    store = store_of(x)
    assert (store.num_rows, store.width, store.dtype) == (*shape, dtype)
    for size in (0, 1, 2, 50, 4 * len(x)):
        ids = torch.randint(len(x), (size,), generator=torch.Generator().manual_seed(size))
        rows = store.read(ids)
        assert torch.equal(rows, x[ids])
        assert rows.dtype == dtype


def test_rows_belong_to_the_reader(store_of):
    x = random_features()
    store = store_of(x.clone())
    store.read(torch.arange(10)).zero_()
    assert torch.equal(store.read(torch.arange(10)), x[:10])


@pytest.mark.parametrize("bad", [500, -1, 10**12, (2**63 - 4097) // 28])
def test_an_id_without_a_row_is_named(store_of, bad):
    with pytest.raises(IndexError, match=rf"row {bad} is asked for, and .* has rows 0 to 499"):
        store_of(random_features()).read(torch.tensor([3, 499, bad, 0]))


def test_threads_read_alike(store_of):
    x = random_features(2000, 40)
    store, wrong = store_of(x), []

    def read(seed):
        for _ in range(20):
            ids = torch.randint(len(x), (300,), generator=torch.Generator().manual_seed(seed))
            if not torch.equal(store.read(ids), x[ids]):
                wrong.append(seed)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_files_made_by_numpy_are_read(tmp_path, dtype, version):
    x = np.random.default_rng(0).normal(size=(300, 11)).astype(dtype)
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array(file, x, version)
    store = MappedFeatures(str(tmp_path / "x.npy"))
    assert torch.equal(store.read(torch.arange(299, -1, -1)), torch.from_numpy(x[::-1].copy()))


@pytest.mark.skipif(sys.platform != "linux", reason="needs sparse files and Linux's way to count memory")
def test_a_file_larger_than_memory_is_read(tmp_path):
    width = 1 << 20
    num_rows = 2 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (4 * width)
    with (tmp_path / "x.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (num_rows, width)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + num_rows * width * 4)  # takes no room
    store = MappedFeatures(tmp_path / "x.npy")
    assert not store.read(torch.tensor([num_rows - 1, 0])).any()


@settings(deadline=None)
@example(ids=set(range(2000)), offset=128, row_bytes=688)
@given(
    ids=st.sets(st.integers(0, 3000)), offset=st.integers(0, 300).map(lambda n: 64 * n), row_bytes=st.integers(1, 20000)
)
def test_requests_cover_all_rows_and_few_pages_between_them(ids, offset, row_bytes):
    page = mmap.PAGESIZE
    asked = requests(torch.tensor(sorted(ids), dtype=torch.long), offset, row_bytes)
    needed = {
        byte // page
        for i in ids
        for byte in (
            *range(offset + i * row_bytes, offset + (i + 1) * row_bytes, page),
            offset + (i + 1) * row_bytes - 1,
        )
    }
    assert all(start % page == length % page == 0 < length for start, length in asked)
    assert all(length <= 65536 + row_bytes + page for _, length in asked)
    assert asked == sorted(asked)
    pages = {n for start, length in asked for n in range(start // page, (start + length) // page)}
    assert needed <= pages
    assert all(needed & {n - 2, n - 1} and needed & {n + 1, n + 2} for n in pages - needed)


# The disk


def bytes_read():
    """What this process has had storage read so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["read_bytes"])


@pytest.fixture
def disk_folder(tmp_path):
    """A folder whose files can be dropped from the page cache."""
    if not Path("/proc/self/io").exists():
        pytest.skip("this system does not say what was read from storage")
    probe = tmp_path / "probe"
    with probe.open("wb+") as file:
        file.write(bytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        before = bytes_read()
        file.seek(0)
        file.read()
    if bytes_read() == before:
        pytest.skip(f"{tmp_path} is not on a disk")
    return tmp_path


def test_after_evict_rows_are_the_same_and_come_from_the_disk(disk_folder):
    x = random_features(20_000, 100)
    store = mapped(disk_folder, x)
    for _ in range(3):
        store.evict()
        before = bytes_read()
        assert torch.equal(store.read(torch.arange(len(x))), x)
        assert bytes_read() - before >= x.nbytes
        before = bytes_read()
        assert torch.equal(store.read(torch.arange(len(x))), x)
        assert bytes_read() == before


def test_a_file_that_was_just_written_by_numpy_is_evicted_too(disk_folder):
    x = random_features(20_000, 100)
    np.save(disk_folder / "x.npy", x.numpy())
    store = MappedFeatures(disk_folder / "x.npy")
    store.evict()
    before = bytes_read()
    assert torch.equal(store.read(torch.arange(len(x))), x)
    assert bytes_read() - before >= x.nbytes


def test_a_cold_read_of_few_rows_reads_little_more_than_their_pages(disk_folder):
    x = random_features(100_000, 100)
    store = mapped(disk_folder, x)
    store.evict()
    ids = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:100].repeat(3)
    before = bytes_read()
    assert torch.equal(store.read(ids), x[ids])
    assert 0 < bytes_read() - before <= 100 * 4 * mmap.PAGESIZE


def test_other_threads_run_while_a_cold_read_waits(disk_folder, monkeypatch):
    x = random_features(100, 200_000)  # few ids, so that all there is to do is to wait and to copy
    mapped(disk_folder, x).evict()
    monkeypatch.delattr(os, "posix_fadvise")  # each request would be an occasion for others to run
    store = MappedFeatures(disk_folder / "x.npy")
    ids = torch.arange(len(x))
    steps, during = [0], []

    def read():
        before, begin = steps[0], time.perf_counter()
        rows = store.read(ids)
        during.append((steps[0] - before, time.perf_counter() - begin))
        assert torch.equal(rows, x)

    def step():
        sum(range(10_000))
        steps[0] += 1

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # a reader that wants the interpreter back gets it after this step
    try:
        thread = threading.Thread(target=read)
        thread.start()
        while thread.is_alive():
            step()
    finally:
        sys.setswitchinterval(interval)
    (count, seconds), begin = during[0], time.perf_counter()
    for _ in range(1000):
        step()
    alone = 1000 * seconds / (time.perf_counter() - begin)
    # One that holds the interpreter leaves a step between two rows at most.
    assert count > min(100, alone / 10), (count, alone)


def test_evict_says_where_it_cannot_be_had(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    with pytest.raises(NotImplementedError, match=r"evict needs posix_fadvise, which .* has not; run it on Linux"):
        mapped(tmp_path, random_features()).evict()


# Writing


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_numpy_reads_what_was_written_in_one_or_in_blocks(tmp_path, dtype):
    x = random_features(1000, 13, dtype)
    write_features(tmp_path / "one.npy", x)
    write_features(str(tmp_path / "blocks.npy"), (block for block in x.split([0, 1, 500, 0, 499])))
    write_features(tmp_path / "columns.npy", x.t().contiguous().t())
    for name in ("one.npy", "blocks.npy", "columns.npy"):
        read = np.load(tmp_path / name, mmap_mode="r")
        assert read.flags.c_contiguous
        assert torch.equal(torch.from_numpy(read.copy()), x)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["blocks.npy", "columns.npy", "one.npy"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    x = random_features()
    write_features(tmp_path / "x.npy", x)

    def blocks():
        yield x
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_features(tmp_path / "x.npy", blocks())
    assert torch.equal(MappedFeatures(tmp_path / "x.npy").read(torch.arange(500)), x)
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]


@pytest.mark.skipif(os.name == "nt", reason="a file in use cannot be replaced there")
def test_an_open_store_keeps_its_rows_when_the_file_is_written_anew(tmp_path):
    old, new = random_features(seed=0), random_features(seed=1)
    store = mapped(tmp_path, old)
    assert torch.equal(mapped(tmp_path, new).read(torch.arange(500)), new)
    assert torch.equal(store.read(torch.arange(500)), old)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "no features to write to .*x.npy; give at least one row"),
        ([torch.zeros(0, 3)], "no features to write to .*x.npy; give at least one row"),
        ([torch.zeros(3)], r"row 0: the features have shape \(3,\); give \[rows, width\], width above 0"),
        ([torch.zeros(3, 0)], r"row 0: the features have shape \(3, 0\)"),
        ([torch.zeros(3, 2), torch.zeros(3, 1)], "row 3: a block of 1 torch.float32 follows rows of 2 torch.float32"),
        ([torch.zeros(3, 2), torch.zeros(3, 2).half()], "row 3: a block of 2 torch.float16 follows rows of 2"),
        ([torch.zeros(3, 2).double()], r"row 0: the features are torch.float64; pass features.float\(\)"),
        ([torch.zeros(3, 2).bfloat16()], r"row 0: the features are torch.bfloat16; pass features.float\(\)"),
        ([torch.zeros(3, 2), torch.tensor([[0, 0], [0, torch.nan]])], "row 4: the features are nan in column 1; fill"),
    ],
)
def test_features_that_no_file_can_hold_are_refused(tmp_path, blocks, message):
    with pytest.raises(StreamError, match=message):
        write_features(tmp_path / "x.npy", blocks)
    assert not list(tmp_path.iterdir())


# What cannot be read


def saved(path, x):
    np.save(path, x)
    return path


def cut(path, size):
    with path.open("rb+") as file:
        file.truncate(size)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((3, 2), np.int64), r"holds int64 \(<i8\); save it as '<f4' or '<f2'"),
        (np.zeros((3, 2), ">f4"), r"holds float32 \(>f4\); save it as '<f4'"),
        (np.zeros((3, 2), np.int64), r"holds int64"),
        (np.zeros(3, np.float32), r"has shape \(3,\); save a matrix \[rows, width\] that is not empty"),
        (np.zeros((3, 0), np.float32), r"has shape \(3, 0\); save a matrix"),
        (np.zeros((0, 3), np.float32), r"has shape \(0, 3\); save a matrix"),
        (np.zeros((3, 2), np.float32, order="F"), r"column after column; save numpy.ascontiguousarray\(features\)"),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path, x, message):
    with pytest.raises(StreamError, match=r"x\.npy .*" + message):
        MappedFeatures(saved(tmp_path / "x.npy", x))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StreamError, match=r"absent\.npy does not exist; write features to a file with write_features"):
        MappedFeatures(tmp_path / "absent.npy")
    with pytest.raises(StreamError, match="is a folder"):
        MappedFeatures(tmp_path)


def headed(header):
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"src,dst,t\n", b"\x93NUMPY\x01\x00\x76\x00{'descr'", headed(b"{[]: 1}"), headed(b"(" * 900)),
        headed(b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1, }\n"),
        headed(b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1), }" + b" " * 4000 + b"x\n"),
    ],
)
def test_a_file_of_another_format_is_refused(tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(StreamError, match=r"x\.npy is not a \.npy file \(.+\); write it with write_features"):
        MappedFeatures(tmp_path / "x.npy")


@pytest.mark.parametrize(("change", "state"), [(-1, "cut off"), (-1400, "cut off"), (4, "overwritten in part")])
def test_a_file_whose_size_is_not_what_its_header_says_is_refused(tmp_path, change, state):
    write_features(tmp_path / "x.npy", random_features(100, 7))
    size = (tmp_path / "x.npy").stat().st_size
    cut(tmp_path / "x.npy", size + change)
    message = rf"has {size + change} bytes, and {size} by its header \(100 rows of 7 float32\); it was {state}"
    with pytest.raises(StreamError, match=message):
        MappedFeatures(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("x", "message"),
    [(torch.zeros(3), r"shape \(3,\), not \[rows, width\]"), (torch.zeros(3, 2).double(), r"pass features.float\(\)")],
)
def test_tensors_that_are_no_features_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        TensorFeatures(x)


# Pinned


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
def test_pinned_says_that_it_needs_cuda(tmp_path):
    write_features(tmp_path / "x.npy", random_features())
    for make in (
        lambda: TensorFeatures(random_features(), pinned=True),
        lambda: MappedFeatures(tmp_path / "x.npy", True),
    ):
        with pytest.raises(ValueError, match="pinned=True needs a CUDA device, and torch finds none; leave pinned out"):
            make()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_pinned_stores_read_into_page_locked_memory(tmp_path):
    x = random_features()
    write_features(tmp_path / "x.npy", x)
    for store in (TensorFeatures(x, pinned=True), MappedFeatures(tmp_path / "x.npy", pinned=True)):
        ids = torch.randint(len(x), (1000,), device="cuda")
        rows = store.read(ids)
        assert rows.is_pinned()
        assert torch.equal(rows.to("cuda", non_blocking=True), x.cuda()[ids])
    with pytest.raises(ValueError, match=r"pinned=True is for features on the CPU, and these are on cuda:0"):
        TensorFeatures(x.cuda(), pinned=True)
    with pytest.raises(IndexError, match="row 500 is asked for"):
        MappedFeatures(tmp_path / "x.npy", pinned=True).read(torch.tensor([500], device="cuda"))


# Batches


def random_stream(num_events=300, num_nodes=20, *, msg_dim=6):
    generator = torch.Generator().manual_seed(0)
    src, dst = torch.randint(num_nodes, (2, num_events), generator=generator)
    t = torch.randint(num_events // 4, (num_events,), generator=generator).sort().values
    return TemporalData(src=src, dst=dst, t=t, msg=torch.randn(num_events, msg_dim, generator=generator))


def without_messages(data, *, width_0):
    msg = torch.empty(data.num_events, 0) if width_0 else None
    return TemporalData(src=data.src, dst=data.dst, t=data.t, msg=msg)


def batches_of(data, msg=None, node_features=None):
    sampler = NeighborSampler(TemporalCSR.from_stream(data), [4, 3])
    negatives = NegativeSampler.from_destinations(data.dst, seed=7)
    return Batches(data, range(40, data.num_events), 50, sampler, negatives, msg=msg, node_features=node_features)


def losses(batches, num_nodes, msg_dim):
    """Trains one pass, and returns the losses and what is in memory afterwards."""
    torch.manual_seed(0)
    model = TGN(num_nodes, msg_dim, memory_dim=8, time_dim=8, embedding_dim=8, num_layers=2)
    objective = Objective(model, LinkPrediction(8))
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-2)
    model.train()
    found = []
    for index in range(len(batches)):
        found.append(train_step(objective, batches.read(0, index), [optimizer], commit=model.update).item())
    model.eval()
    return found, model.memory.state.tables["memory"].clone()


@pytest.mark.parametrize("width_0", [True, False])
def test_a_mapped_store_trains_the_same_losses_as_memory_bit_for_bit(tmp_path, width_0):
    data = random_stream()
    expected, memory = losses(batches_of(data), 20, 6)
    bare = without_messages(data, width_0=width_0)
    found, mapped_memory = losses(batches_of(bare, mapped(tmp_path, data.msg)), 20, 6)
    assert len(set(expected)) == len(expected) == 6
    assert found == expected
    assert torch.equal(mapped_memory, memory)


def test_half_precision_rows_reach_training_as_float32(tmp_path):
    data = random_stream()
    store = mapped(tmp_path, data.msg.half())
    batch = batches_of(without_messages(data, width_0=True), store).read(0, 3)
    assert {x.dtype for x in (batch.msg, *batch.edge_msg)} == {torch.float32}
    assert torch.equal(batch.msg, data.msg.half().float()[batch.events.start : batch.events.stop])
    for msg, hop in zip(batch.edge_msg, batch.sample.hops, strict=True):
        assert torch.equal(msg, data.msg.half().float()[hop.e_id])


def test_a_batch_has_no_messages_before_it_is_gathered(tmp_path):
    store = mapped(tmp_path, random_features(300))
    (tmp_path / "x.npy").unlink()
    batches = batches_of(random_stream(), store)
    drawn = batches.draw(batches.events_of(2), 0, 2)
    assert (drawn.msg.numel(), drawn.edge_msg) == (0, ())
    assert batches.gather(drawn).msg.shape == (50, 7)


def test_a_store_of_another_number_of_rows_is_refused():
    with pytest.raises(ValueError, match="msg has 299 rows and the stream 300 events; give one row for each"):
        batches_of(random_stream(), TensorFeatures(torch.zeros(299, 6)))


def test_a_store_of_more_events_serves_the_first_ones():
    data = random_stream()
    expected = batches_of(data).read(0, 1)
    assert torch.equal(batches_of(data, TensorFeatures(torch.cat([data.msg, data.msg]))).read(0, 1).msg, expected.msg)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_batch_brings_the_features_of_its_nodes_as_float32(store_of, dtype):
    x = random_features(25, 7, dtype)
    batches = batches_of(random_stream(), node_features=store_of(x))
    drawn = batches.draw(batches.events_of(2), 0, 2)
    assert drawn.x is None
    others = batches.ask(torch.tensor([7, 3]), 200), batches.gather(batches.without_queries(range(9)))
    for batch in (batches.gather(drawn), *others):
        assert torch.equal(batch.x, x.float()[batch.n_id])
        assert map_tensors(batch, lambda x: x.to("meta")).x.device.type == "meta"
    assert batches_of(random_stream()).read(0, 0).x is None


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("skip", [0, 1, 2])
def test_rows_are_read_behind_those_that_are_left_out_and_float64_as_float32(tmp_path, dtype, skip):
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    store = MappedFeatures(tmp_path / "x.npy", skip=skip)
    expected = torch.from_numpy(x[skip:]).to(torch.float16 if dtype == np.float16 else torch.float32)
    assert (store.num_rows, store.width, store.dtype) == (5 - skip, 3, expected.dtype)
    ids = torch.tensor([2, 0, 1])
    assert torch.equal(store.read(ids), expected[ids])
    with pytest.raises(IndexError, match=f"has rows 0 to {4 - skip}"):
        store.read(torch.tensor([5 - skip]))
    with pytest.raises(StreamError, match="skip=5 of 5 rows"):
        MappedFeatures(tmp_path / "x.npy", skip=5)
