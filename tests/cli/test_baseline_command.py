"""``mspipe baseline``, and the ranks that ``mspipe evaluate`` writes."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from small_commands import SMALL

from pyg_mspipe.data import load_stream
from pyg_mspipe.tasks import BASELINES, Baselines, evaluate_baselines
from pyg_mspipe.training import TrainConfig, Trainer, load_checkpoint


def failed(result, told):
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert told in result.stderr


def rows_of(shown):
    """The cells of a table's rows."""
    lines = [line for line in shown.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_baselines_are_evaluated_on_the_negatives_of_a_run_with_the_same_settings(mspipe, npz, files):
    flags = ["--batch-size", "30", "--eval-negatives", "3", "--seed", "2", "--val-ratio", "0.2", "--negatives", "nodes"]
    result = mspipe("baseline", npz(), *flags)
    assert (result.exit_code, result.stderr) == (0, "")
    assert files() == ["events.npz"]
    sizes = {"memory_dim": 4, "time_dim": 4, "embedding_dim": 4}
    config = TrainConfig(batch_size=30, eval_negatives=3, seed=2, val_ratio=0.2, negatives="nodes", **sizes)
    trainer = Trainer(load_stream("events.npz"), config)
    expected = []
    for part in ("val", "test"):
        batches = trainer.batches(part, evaluation=True)
        baselines = Baselines.of(trainer.data, trainer.split.train)
        found = evaluate_baselines(baselines, batches, trainer.groups)
        expected += [[part, name.replace("_", " "), *list(found[name].columns().values())[1:]] for name in BASELINES]
    assert rows_of(result.stdout) == expected
    assert "MRR@3" in result.stdout


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["nowhere.csv"], "nowhere.csv"),
        (["events.npz", "--eval-negatives", "0"], "eval_negatives is 0; give a number from 1"),
        (["events.npz", "--val-ratio", "0.9"], "leave nothing to train on"),
        (["events.npz", "--val-time", "3"], "--val-time is given without --test-time"),
    ],
)
def test_what_baselines_cannot_be_evaluated_on_is_told_in_one_line(mspipe, npz, flags, told):
    npz()
    failed(mspipe("baseline", *flags), told)


def test_ranks_of_a_run_come_to_the_metrics_that_it_writes(mspipe, train, npz, arrays):
    train(npz(), "--out", "run")
    assert mspipe("evaluate", "run").exit_code == 0
    before = Path("run/evaluation.json").read_bytes()
    result = mspipe("evaluate", "run", "--ranks", "ranks.parquet")
    assert (result.exit_code, result.stderr) == (0, "")
    assert Path("run/evaluation.json").read_bytes() == before
    metrics, ranks = json.loads(before), parquet.read_table("ranks.parquet").to_pandas()
    assert ranks.event.tolist() == list(range(400 - len(ranks), 400))
    for name in ("src", "dst", "t"):
        assert np.array_equal(ranks[name], arrays[name][-len(ranks) :])
    for part in ("val", "test"):
        own = ranks[ranks.part == part]
        assert len(own) == metrics[part]["num_events"]
        assert (1 / own["rank"]).mean() == pytest.approx(metrics[part]["mrr"])
        assert (own["rank"] <= 1).mean() == pytest.approx(metrics[part]["hits_1"])
        assert set(own.num_negatives) == {2}
    assert not [path for path in Path().rglob(".*") if path.is_file()]


def test_groups_stand_in_a_table_below(mspipe, train, npz):
    train(npz(), "--out", "run")
    shown = rows_of(mspipe("evaluate", "run").stdout)
    metrics = json.loads(Path("run/evaluation.json").read_text())
    assert [row[0] for row in shown[:2]] == ["val", "test"]
    expected = [[part, name.replace("_", " ")] for part in ("val", "test") for name in metrics[part]["groups"]]
    assert [row[:2] for row in shown[2:]] == expected
    transductive = metrics["test"]["groups"]["transductive"]
    row = next(row for row in shown if row[:2] == ["test", "transductive"])
    assert row[2:] == [
        str(transductive["num_events"]),
        *(f"{transductive[name]:.4f}" for name in ("ap", "mrr", "hits_10")),
    ]


def test_a_ctrl_c_before_ranks_are_whole_leaves_no_file(mspipe, train, npz, monkeypatch, files):
    train(npz(), "--out", "run")
    there = files()

    def interrupted(table, file):
        file.write(b"half")
        raise KeyboardInterrupt

    def leave(code):
        raise SystemExit(code)

    monkeypatch.setattr(parquet, "write_table", interrupted)
    monkeypatch.setattr("pyg_mspipe.cli.errors._exit_now", leave)  # which ends this process
    result = mspipe("evaluate", "run", "--ranks", "ranks.parquet")
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")
    assert files() == there


def test_ranks_that_cannot_be_written_are_refused_before_the_run_is_read(mspipe, files):
    failed(mspipe("evaluate", "nowhere", "--ranks", "."), "--ranks . is a folder; give the name of a file")
    failed(mspipe("evaluate", "nowhere", "--ranks", "no/ranks.parquet"), "the folder no does not exist")
    assert files() == []


def test_a_run_of_labels_has_no_ranks(mspipe, npz):
    name = npz(y=np.arange(400) % 2)
    assert mspipe("train", name, *SMALL, "--task", "edge", "--out", "run").exit_code == 0
    failed(mspipe("evaluate", "run", "--ranks", "ranks.parquet"), "--ranks is for link prediction")
    assert "groups" not in mspipe("evaluate", "run").stdout
    assert "groups" not in asdict(
        Trainer.resume(load_stream(name), load_checkpoint(Path("run/best.pt")), "run").evaluate("val")
    )
