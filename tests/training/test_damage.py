"""Whatever happens to the bytes of a run's files: one line says what is damaged, or the run goes on as if nothing had.

``pytest tests/training/test_damage.py --thorough`` damages each file a thousand times.
"""

import json
import random
import shutil

import numpy as np
import pytest
import torch
from small_runs import contents, photograph, photographs, read_log, same, small_config
from typer.testing import CliRunner

from pyg_mspipe.cli import app
from pyg_mspipe.data import MappedFeatures, synthetic, write_features
from pyg_mspipe.distributed import EmulatedExecutor
from pyg_mspipe.training import Trainer, load_checkpoint

# How many of the files that are cut off are refused. A text can do without its last line break, a log without what came
# after the checkpoint.
RESUMED = {
    "run/last.pt": "all",
    "run/static.pt": "all",
    "run/last.4.rank0.pt": "all",
    "run/last.4.rank1.pt": "all",
    "events.npz": "all",
    "events.npy": "all",
    "nodes.npy": "all",
    "labels.csv": "some",
    "run/metrics.jsonl": "some",
    "events.npz.similar.npz": "none",
}
EVALUATED = {"run/best.pt": "all", "run/static.pt": "all", "run/evaluation.json": "none"}
TESTED = [("resume", *each) for each in RESUMED.items()] + [("evaluate", *each) for each in EVALUATED.items()]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run with each kind of file that there is: ``whole``, and ``run``, as it was amid its only sweep."""
    place = tmp_path_factory.mktemp("damage")
    data, draws = synthetic(210, num_src=15, num_dst=15, msg_dim=2), np.random.default_rng(0)
    np.savez(place / "events.npz", **{name: data[name].numpy() for name in ("src", "dst", "t", "msg")})
    write_features(place / "events.npy", torch.randn(210, 3))
    write_features(place / "nodes.npy", torch.randn(30, 3))
    rows = [f"{draws.integers(30)},{t},{draws.integers(2)}\n" for t in np.linspace(0, int(data.t[-1]), 100, dtype=int)]
    (place / "labels.csv").write_text("node,t,y\n" + "".join(rows))
    sizes = {"memory_dim": 2, "time_dim": 2, "embedding_dim": 2, "num_neighbors": 2, "static_dim": 2}
    config = small_config(
        **sizes,
        task="node",
        labels=str(place / "labels.csv"),
        static_epochs=1,
        mitigation="similarity",
        parallel="1x1x2",
        threads=1,
    )
    Trainer(
        data,
        config,
        place / "whole",
        features=MappedFeatures(place / "events.npy"),
        node_features=MappedFeatures(place / "nodes.npy"),
        executor=EmulatedExecutor(),
        listeners=[photograph],
        source={"name_or_path": str(place / "events.npz")},
        similar_cache=place / "events.npz.similar.npz",
    ).fit()
    shutil.move(photographs(place / "whole")[0], place / "run")
    shutil.copy(place / "whole" / "best.pt", place / "run")
    assert call("evaluate", place).exit_code == 0
    return place


@pytest.fixture(scope="module")
def files(place):
    """The bytes of all files that the run reads or writes."""
    paths = [*(place / "run").iterdir(), *(place / name for name, _ in RESUMED.items() if "/" not in name)]
    return {path: path.read_bytes() for path in paths}


def call(command, place):
    return CliRunner().invoke(app, [command, str(place / "run"), *(["--emulate"] if command == "resume" else [])])


def flipped(content, draws):
    place = draws.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << draws.randrange(8)]) + content[place + 1 :]


def cut_off(content, draws):
    return content[: draws.randrange(len(content))]


def result_of(command, folder):
    """What a command leaves in a run's folder."""
    if command == "evaluate":
        return json.loads((folder / "evaluation.json").read_text())
    ranks = {path.name: load_checkpoint(path) for path in folder.glob("last.*.rank*.pt")}
    return [read_log(folder), contents(folder), ranks]


@pytest.fixture(scope="module")
def expected(place):
    """The results of the run that nothing happened to, by command."""
    assert CliRunner().invoke(app, ["evaluate", str(place / "whole")]).exit_code == 0
    return {command: result_of(command, place / "whole") for command in ("evaluate", "resume")}


@pytest.mark.parametrize("damage", [flipped, cut_off])
@pytest.mark.parametrize(("command", "name", "refused"), TESTED, ids=[f"{each[0]} {each[1]}" for each in TESTED])
def test_what_is_damaged_is_named_in_one_line_or_does_no_harm(
    place, files, expected, request, command, name, refused, damage
):
    count, refusals = 500 if request.config.getoption("--thorough") else 3, 0
    for number in range(count):
        draws = random.Random(f"{name} {number}")
        shutil.rmtree(place / "run")
        (place / "run").mkdir()
        for path, content in files.items():
            path.write_bytes(content)
        (place / name).write_bytes(damage(files[place / name], draws))
        result = call(command, place)
        if result.exit_code == 0:
            assert same(result_of(command, place / "run"), expected[command]), (name, number)
            continue
        refusals += 1
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), (name, number, result.output, result.exception)
        assert result.stderr.startswith("error: "), (name, number)
    print(f"{command}, {name} {damage.__name__} {count} times: {refusals} refused, {count - refusals} equal")
    if damage is cut_off:
        assert refusals == {"all": count, "none": 0}.get(refused, refusals)


def test_the_run_that_is_damaged_goes_on_where_it_is_whole(place, files, expected):
    for path, content in files.items():
        path.write_bytes(content)
    for command in ("evaluate", "resume"):
        assert call(command, place).exit_code == 0
        assert same(result_of(command, place / "run"), expected[command])
