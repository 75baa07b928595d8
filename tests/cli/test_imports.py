"""What commands load: nothing heavy for help, completion and what was typed wrong, and PyTorch alone to read a stream.

Modules are counted, since they say on every machine what a second says on one.
"""

import json
import os
import re
import subprocess
import sys
from typing import get_args

import pytest
from processes import patience
from typer.main import get_command

from pyg_mspipe._choices import ModelName, TaskName
from pyg_mspipe.cli import app
from pyg_mspipe.models.registry import MODELS
from pyg_mspipe.tasks.registry import TASKS

HEAVY = {
    *("matplotlib", "numpy", "pandas", "pyarrow", "scipy", "sklearn"),
    *("tensorboard", "torch", "torch_geometric", "torch_scatter", "torchmetrics"),
}


def commands_below(command, path=()):
    """All commands, as what is typed for them."""
    yield [*path]
    for name, below in getattr(command, "commands", {}).items():
        yield from commands_below(below, (*path, name))


SHOWN = [[*path, "--help"] for path in commands_below(get_command(app))]
SHOWN += [["--version"], ["plan", "1x2x2"], ["plan", "--world", "4"], ["simulate", "--tau", "1,2,3,5,3"]]
WRONG = [
    ["trian"],
    ["data", "inof"],
    ["--debug"],
    ["--nope"],
    ["train", "synthetic", "--nope"],
    ["train", "synthetic", "more"],
    ["train", "--epochs", "3"],
    ["train", "synthetic", "--epochs"],
    ["train", "synthetic", "--epochs", "many"],
    ["train", "synthetic", "--epochs", "0"],
    ["train", "synthetic", "--seed", str(2**63)],
    ["train", "synthetic", "--lr", "x"],
    ["train", "synthetic", "--val-time", "1.5"],
    ["train", "synthetic", "--precision", "fp8"],
    ["train", "synthetic", "--tensorboard=yes"],
    ["train", "synthetic", "--staleness", "often"],
    ["train", "synthetic", "--parallel", "2"],
    ["train", "synthetic", "--parallel", "1x2x2"],
    ["train", "synthetic", "--model", "tng"],
    ["train", "synthetic", "--task", "nodes"],
    ["train", "synthetic", "--config", "nowhere.toml"],
    ["train", "synthetic", "--timeline", "nowhere/out.json"],
    ["baseline", "synthetic", "--nope"],
    ["baseline", "synthetic", "--batch-size", "0"],
    ["evaluate", "run", "--ranks", "nowhere/ranks.parquet"],
    ["resume", "--stream", "events.npz"],
    ["resume", "run", "--epochs", "x"],
    ["plan", "1x2"],
    ["plan", "--world", "x"],
    ["simulate", "--tau", "1"],
    ["timeline", "nowhere.json"],
    ["timeline", "nowhere.json", "--first", "-1"],
]
IN_TURN = """
import json, sys
from typer.testing import CliRunner
from pyg_mspipe.cli import app
for command in json.loads(sys.argv[1]):
    done = CliRunner().invoke(app, command)
    print(json.dumps([done.exit_code, done.stdout, done.stderr, sorted(sys.modules)]))
"""


def run(*command, **environment):
    """Runs Python, and gives what it printed and the names of the modules that it loaded, in their order."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=patience(),
        check=False,
    )
    names = re.findall(r"^import time: .*\| +(\S+)$", done.stderr, re.MULTILINE)
    assert "typing" in names
    return done.stdout, names


def done_in_turn(commands):
    """For each command its exit code, what it printed, its errors, and the modules that are loaded after it."""
    out, _ = run("-c", IN_TURN, json.dumps(commands))
    return [json.loads(line) for line in out.splitlines()]


def heavy(names):
    return HEAVY & {name.partition(".")[0] for name in names}


@pytest.fixture(scope="module")
def results():
    """What each command does, and what is loaded after it; one process does all, one after the other."""
    commands = [*SHOWN, *WRONG]
    return dict(zip(map(tuple, commands), done_in_turn(commands), strict=True))


@pytest.mark.parametrize("command", SHOWN, ids=" ".join)
def test_what_needs_no_stream_is_shown_without_loading_anything_heavy(results, command):
    code, out, errors, names = results[tuple(command)]
    assert (code, errors, heavy(names)) == (0, "", set())
    assert out


@pytest.mark.parametrize("command", WRONG, ids=" ".join)
def test_what_is_typed_wrong_is_told_in_one_line_without_loading_anything_heavy(results, command):
    code, out, errors, names = results[tuple(command)]
    assert (code, out, errors.count("\n"), heavy(names)) == (2, "", 1, set())
    assert errors.startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "most"),
    [
        (["--version"], 320),
        (["--help"], 400),
        (["train", "--help"], 400),
        (["data", "info", "--help"], 400),
        (["train", "synthetic", "--nope"], 320),
    ],
)
def test_help_and_wrong_flags_take_a_few_hundred_modules_and_none_that_reads_values(arguments, most):
    _, names = run("-m", "pyg_mspipe", *arguments)
    assert heavy(names) == set()
    assert "pydantic" not in names
    assert len(names) < most


def test_a_folder_that_has_a_run_is_refused_without_loading_anything_heavy(tmp_path):
    (tmp_path / "last.pt").touch()
    code, out, errors, names = done_in_turn([["train", "synthetic", "--out", str(tmp_path)]])[0]
    assert (code, out, heavy(names)) == (2, "", set())
    assert errors.startswith(f"error: {tmp_path} has a run already; ")


def test_the_shell_completes_without_loading_anything_heavy():
    typed = {"COMP_WORDS": "mspipe train --precision ", "COMP_CWORD": "3"}
    out, names = run("-m", "pyg_mspipe", _MSPIPE_COMPLETE="complete_bash", **typed)
    assert out.split() == ["fp32", "bf16"]
    assert heavy(names) == set()
    assert len(names) < 420


def test_a_stream_and_a_run_are_looked_for_before_pyg_is_loaded_and_trained_on_without_what_metrics_take():
    missing = [
        ["train", "nowhere.csv"],
        ["data", "info", "nowhere.csv"],
        ["baseline", "nowhere.csv"],
        ["resume", "nowhere"],
        ["evaluate", "nowhere"],
    ]
    script = f"{IN_TURN}\nimport pyg_mspipe.cli.fitting\nprint(json.dumps([0, '', '', sorted(sys.modules)]))"
    out, _ = run("-c", script, json.dumps(missing))
    *told, (_, _, _, with_training) = map(json.loads, out.splitlines())
    assert [(code, errors.count("\n")) for code, _, errors, _ in told] == [(2, 1)] * len(missing)
    names = told[-1][3]
    assert heavy(names) == {"numpy", "pyarrow", "torch"}
    assert "torch._dynamo" not in names
    assert len([name for name in names if not name.startswith("torch.")]) < 850
    assert heavy(with_training) <= heavy(names) | {"torch_geometric", "torch_scatter", "pandas"}  # pandas is PyG's


def test_the_names_that_flags_know_are_those_of_the_registries():
    assert (tuple(MODELS), tuple(TASKS)) == (get_args(ModelName), get_args(TaskName))


def test_what_a_run_reads_is_told_before_pyg_is_loaded():
    command = [sys.executable, "-X", "importtime", "-m", "pyg_mspipe", "train", "synthetic", "--out", "run"]
    names, told = [], ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for told in process.stdout:
            if not told.startswith("import time:"):
                break
            names.append(told.rpartition("|")[2].strip())
        process.kill()
    assert told == ("20,000 events, 1,868 nodes: 14,000 train, 3,000 val and 3,000 test events; model tgn, task link\n")
    assert heavy(names) == {"numpy", "pyarrow", "torch"}
    assert "torch._dynamo" not in names
    assert len([name for name in names if not name.startswith("torch.")]) < 900
