"""Small runs by the command line whose losses are on record: of every kind of memory access that there is.

``PYTHONPATH=tests python tests/golden/golden_runs.py`` records them anew, for a change that is meant to move numbers.
"""

from __future__ import annotations

import json
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from processes import Forked, torchrun
from typer.testing import CliRunner

from pyg_mspipe.cli import app

RECORD = Path(__file__).with_name("losses.json")

# 60 batches of 20 training events in an epoch.
_EVENTS = 1715
_SIZES = "--memory-dim 12 --time-dim 8 --embedding-dim 12 --num-neighbors 4 --eval-negatives 5"
COMMON = f"{_SIZES} --batch-size 20 --lr 1e-3 --epochs 1 --threads 1 --lr-scaling none --no-tensorboard".split()

_IN_LINE = "--overlap never"
_THREADS = "--overlap always"
RUNS = {
    "plain": "--staleness sequential",
    "two-layers": "--staleness sequential --layers 2",
    "event-cut-off": "--staleness sequential --cut-off event",
    "event-cut-off-two-layers": "--staleness sequential --cut-off event --layers 2",
    "uniform": "--staleness sequential --strategy uniform",
    "bf16": "--staleness sequential --precision bf16",
    "bound-2": f"--staleness 2 {_IN_LINE}",
    "similarity": f"--staleness 2 {_IN_LINE} --mitigation similarity",
    "gated": f"--staleness 2 {_IN_LINE} --mitigation gated",
    "predictive": f"--staleness 2 {_IN_LINE} --mitigation predictive",
    "static": "--staleness sequential --static-dim 6 --static-epochs 2",
    "exact": f"--staleness exact {_THREADS}",
    "exact-two-layers": f"--staleness exact {_THREADS} --layers 2",
    "emulated-2x1x1": "--parallel 2x1x1 --emulate",
    "emulated-1x2x1": "--parallel 1x2x1 --emulate --epochs 2",
    "emulated-1x1x2": "--parallel 1x1x2 --emulate --epochs 4",
}
SAME = {"exact": "plain", "exact-two-layers": "two-layers"}
"""Runs that give the losses of another."""

PROCESSES = {"2x1x1": [], "1x2x1": ["--epochs", "2"], "1x1x2": ["--epochs", "4"]}
"""Plans that two processes train too; each gives the losses of its emulation."""


def write_stream(path: Path) -> Path:
    """Writes a stream whose nodes are sources and destinations, with repeats and self-loops."""
    rng = np.random.default_rng(7)
    popular = 1 / np.arange(1, 61) ** 0.8
    src, dst = (rng.choice(60, _EVENTS, p=popular / popular.sum()) for _ in range(2))
    t = 1_600_000_000 + np.cumsum(rng.integers(1, 400, _EVENTS))
    msg = rng.standard_normal((_EVENTS, 3)).astype(np.float32)
    np.savez(path, src=src, dst=dst, t=t, msg=msg)
    return path


def numbers(folder: Path) -> dict[str, object]:
    """The losses of a run, batch by batch, and its validation metrics, from its log."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    return {
        "losses": [line["loss"] for line in lines if line["kind"] == "batch"],
        "validation": [[line[name] for name in ("ap", "auc", "mrr", "ap_unseen")] for line in epochs],
    }


def train(stream: Path, folder: Path, *flags: str) -> dict[str, object]:
    """The numbers of a run in this process."""
    result = CliRunner().invoke(app, ["train", str(stream), "--out", str(folder), *COMMON, *flags])
    assert result.exit_code == 0, result.output
    return numbers(folder)


def train_in_processes(stream: Path, folder: Path, plan: str) -> dict[str, object]:
    """The numbers of a run in two processes."""
    flags = ["--out", str(folder), *COMMON, "--parallel", plan, *PROCESSES[plan]]
    torchrun(2, "-m", "pyg_mspipe", "train", stream, *flags)
    return numbers(folder)


def train_with_a_kill(stream: Path, folder: Path) -> dict[str, object]:
    """The numbers of a run that is killed in mid-epoch and goes on."""
    flags = ["--out", str(folder), *COMMON, "--staleness", "sequential", "--checkpoint-every", "7"]
    # Slowed down, so that it is killed before its end on any machine.
    slow = "import time, torch; step = torch.optim.Adam.step\n"
    slow += "def late(*a, **o): time.sleep(0.1); return step(*a, **o)\n"
    slow += "torch.optim.Adam.step = late\nfrom pyg_mspipe.cli import app\napp()"
    process = Forked("-c", slow, "train", stream, *flags)
    while not (folder / "last.pt").exists():
        assert process.poll() is None, "the run ended before its first checkpoint"
        time.sleep(0.05)
    process.kill()
    process.wait()
    result = CliRunner().invoke(app, ["resume", str(folder)])
    assert result.exit_code == 0, result.output
    assert "resuming" in result.output
    return numbers(folder)


def machine() -> dict[str, str]:
    """What decides how floating-point numbers are rounded."""
    model = ""
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")
    return {
        "processor": model or platform.processor(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }


def record() -> None:
    """Writes the numbers of all runs."""
    with tempfile.TemporaryDirectory() as folder:
        stream = write_stream(Path(folder) / "events.npz")
        names = [name for name in RUNS if name not in SAME]
        runs = {name: train(stream, Path(folder) / name, *RUNS[name].split()) for name in names}
    RECORD.write_text(json.dumps({"machine": machine(), "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    record()
