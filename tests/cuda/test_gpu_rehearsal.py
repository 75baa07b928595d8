"""The benchmark of a GPU runs whole, so that it does not fail for a slip where there is one."""

import json

import numpy as np

from benchmarks.gpu import MODES, Settings, peers
from pyg_mspipe.data import synthetic

PARTS = {"exactness", "modes", "batch_sizes", "peers", "evaluation", "tests"}


def test_the_benchmark_of_a_gpu_measures_all_its_parts(on_cuda, tmp_path):
    path, data = tmp_path / "few.npz", synthetic(330, num_src=30, num_dst=20, msg_dim=4)
    np.savez(path, **{name: data[name].numpy() for name in ("src", "dst", "t", "msg")})
    result = on_cuda("gpu_benchmark", {"stream": str(path)})["result"]
    assert json.loads(json.dumps(result))
    parts = result["parts"]
    assert parts.keys() == PARTS
    errors = [
        row["traceback" if "traceback" in row else "error"] for rows in parts.values() for row in rows if "error" in row
    ]
    assert not errors, errors[0]
    assert not result["failed"]
    assert [row["mode"] for row in parts["modes"]] == [*MODES] * 2
    assert all(row["same_losses_as_first"] and row["same_memory_as_first"] for row in parts["exactness"])
    assert all(row["bound_held"] for name in ("modes", "batch_sizes") for row in parts[name])
    assert {row["what"] for row in parts["peers"]} == {*peers(), "Trainer fp32", "Trainer bf16"}


def test_it_fits_into_ten_minutes():
    assert Settings().seconds <= 480
