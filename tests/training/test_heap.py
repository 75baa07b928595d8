import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from pyg_mspipe.training import keep_freed_memory

print(keep_freed_memory())
torch.set_num_threads(1)


def step():
    for _ in range(20):
        blocks = [torch.zeros(1_000_000) for _ in range(10)]
        del blocks


step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
GLIBC = platform.libc_ver()[0] == "glibc"
PLAIN = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}


def run(environment):
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, env=environment)
    kept, faults = done.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(not GLIBC, reason="needs glibc")
def test_kept_memory_is_used_again_without_page_faults():
    kept, faults = run(PLAIN)
    assert kept == "True"
    # Some 200,000 where freed memory is given back.
    assert faults < 1000


def test_settings_of_the_environment_are_left_alone():
    assert run(PLAIN | {"MALLOC_TOP_PAD_": "131072"})[0] == "False"
