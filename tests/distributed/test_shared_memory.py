import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from processes import torchrun

from pyg_mspipe.distributed import shared_memory
from pyg_mspipe.distributed.shared_memory import spare_host_memory

WORKER = Path(__file__).with_name("collectives_worker.py")
Usage = namedtuple("Usage", "total used free")


def test_four_processes_add_up_in_the_order_of_their_ranks_and_share_memory_by_two(tmp_path):
    torchrun(4, WORKER, tmp_path)
    for rank in range(4):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found["sums"]["wrong"] == []
        assert rank > 1 or found["sums"]["order matters"], "the sums say nothing about the order"
        assert found["gradients"]["wrong"] == []
        first, *others = found["gradients"]["buckets"]
        assert others[0] != first, "the wrapper did not put gradients into other buckets after its first step"
        assert len(others[0]) > 1
        assert others == others[:1] * 4
        assert all(found["shared"].values()), found["shared"]
        assert found["memories"]["kept"], "the wrapper has written to node memory"
        assert found["memories"]["last update"][:4] == [10 + rank if node == rank else 0 for node in range(4)]
        assert "MiB of shared memory is not available in" in found["refused"]
        assert found["refused"].endswith("; give more (in a container: --shm-size), or take a smaller k or memory_dim")
        if sys.platform == "linux":
            # Nothing is left behind, however the processes end.
            assert len(found["names"]) > 0
            assert all(line.endswith("(deleted)") for line in found["names"])


def test_groups_may_take_half_of_what_is_available_and_no_more_than_shared_memory_has(monkeypatch):
    if not Path("/dev/shm").is_dir():
        pytest.skip("no /dev/shm")
    monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda path: Usage(2**60, 0, 2**60))
    half = spare_host_memory()
    assert 2**20 < half < 2**50
    monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda path: Usage(2**26, 2**25, 2**25))
    assert spare_host_memory() == min(half, 2**25)
