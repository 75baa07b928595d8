import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command):
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_drop_in_example_learns():
    ap = float(run("examples/tgn_drop_in.py", "--epochs", "1").split()[-1])
    assert ap > 0.8


@pytest.mark.parametrize("staleness", ["exact", "minimal"])
def test_the_pipelined_example_learns(staleness):
    ap = float(run("examples/tgn_pipeline.py", "--epochs", "1", "--staleness", staleness).split()[-1])
    assert ap > 0.8


def test_the_pipelined_example_changes_at_most_ten_lines():
    text = (ROOT / "examples" / "tgn_pipeline.py").read_text(encoding="utf-8")
    assert 1 <= text.count("# <-\n") <= 10


@pytest.mark.parametrize("command", [["sampling"], ["tgn_equality", "--batches", "3"], ["synthetic_stream"]])
def test_benchmarks_run(command):
    assert "-quick.json" in run("-m", f"benchmarks.{command[0]}", "--quick", *command[1:]).replace("\n", "")
