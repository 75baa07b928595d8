import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PATCH = """
import torch_geometric.nn

from pyg_mspipe.memory import TGNMemory

torch_geometric.nn.TGNMemory = TGNMemory


def pytest_collection_finish(session):
    assert session.items
    assert all(item.module.TGNMemory is TGNMemory for item in session.items)
"""


def test_pygs_own_test_passes_with_our_memory_in_place_of_pygs(tmp_path):
    if "PYG_SOURCE" not in os.environ:
        pytest.skip("set PYG_SOURCE to a checkout of PyG")
    shutil.copy(Path(os.environ["PYG_SOURCE"], "test", "nn", "models", "test_tgn.py"), tmp_path)
    (tmp_path / "conftest.py").write_text(PATCH)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
