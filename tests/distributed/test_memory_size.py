from collections import namedtuple

import pytest

from pyg_mspipe.distributed import memory_size
from pyg_mspipe.distributed.memory_size import spare_host_memory

Usage = namedtuple("Usage", "total used free")


def test_groups_may_take_half_of_what_is_available_and_no_more_than_shared_memory_has(monkeypatch):
    if not memory_size.Path("/dev/shm").is_dir():
        pytest.skip("no /dev/shm")
    monkeypatch.setattr(memory_size.shutil, "disk_usage", lambda path: Usage(2**60, 0, 2**60))
    half = spare_host_memory()
    assert 2**20 < half < 2**50
    monkeypatch.setattr(memory_size.shutil, "disk_usage", lambda path: Usage(2**26, 2**25, 2**25))
    assert spare_host_memory() == min(half, 2**25)
