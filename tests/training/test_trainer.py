import io
import json
import math
import threading

import pytest
import torch
from rich.console import Console
from small_runs import BlindExecutor, contents, losses, read_log, same, small_config, small_stream

from pyg_mspipe.data import StreamError, synthetic
from pyg_mspipe.tasks import Baselines, DivergedError, evaluate_baselines
from pyg_mspipe.training import ConfigError, TrainConfig, Trainer, load_checkpoint


@pytest.fixture(scope="module")
def data():
    return small_stream()


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trainer") / "run"
    Trainer(data, small_config(), folder).fit()
    return folder


def test_the_same_seed_gives_the_same_run_bit_for_bit(data, run, tmp_path):
    Trainer(data, small_config(), tmp_path).fit()
    assert read_log(tmp_path) == read_log(run)
    assert same(contents(tmp_path), contents(run))


def test_another_seed_gives_another_run(data, run, tmp_path):
    Trainer(data, small_config(seed=1), tmp_path).fit()
    assert not set(losses(tmp_path)) & set(losses(run))


def test_what_others_draw_and_other_trainers_change_nothing(data, run, tmp_path):
    trainers = [Trainer(data, small_config(), tmp_path / name) for name in ("first", "second")]
    for trainer in trainers:
        torch.rand(5)
        trainer.fit()
        assert losses(trainer.folder) == losses(run)


def test_batches_of_an_epoch_are_trained_once_and_in_order(run):
    lines = read_log(run)
    assert lines[0]["kind"] == "run"
    batches = [line for line in lines if line["kind"] == "batch"]
    assert [(line["epoch"], line["batch"]) for line in batches] == [(e, b) for e in range(2) for b in range(11)]
    assert [line["step"] for line in batches] == list(range(22))
    assert [(line["epoch"], line["step"]) for line in lines if line["kind"] == "epoch"] == [(0, 10), (1, 21)]


def test_an_epoch_names_all_that_its_metrics_depend_on(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = next(line for line in reversed(lines) if line["kind"] == "epoch")
    assert last["rate"] > 0
    assert (last["cut_off"], last["negatives"], last["num_negatives"], last["num_events"]) == (
        "batch",
        "destinations",
        3,
        90,
    )
    assert 0 < last["ap"] <= 1
    assert 0 < last["auc"] <= 1
    assert 0 < last["mrr"] <= 1


def test_the_loss_of_an_epoch_is_the_mean_over_its_events(run):
    lines = read_log(run)
    sizes = [40] * 10 + [20]
    for line in (line for line in lines if line["kind"] == "epoch"):
        of_batches = [x["loss"] for x in lines if x["kind"] == "batch" and x["epoch"] == line["epoch"]]
        mean = sum(size * loss for size, loss in zip(sizes, of_batches, strict=True)) / 420
        assert line["loss"] == pytest.approx(mean, rel=1e-12)


def test_validation_changes_nothing_of_the_training(data, run, tmp_path):
    Trainer(data, small_config(), tmp_path, executor=BlindExecutor()).fit()
    assert losses(tmp_path) == losses(run)


def test_the_best_checkpoint_gives_again_the_metrics_of_its_epoch(data, run):
    checkpoint = load_checkpoint(run / "best.pt")
    best = [line for line in read_log(run) if line["kind"] == "epoch" and line["best"]][-1]
    metrics = Trainer.resume(data, checkpoint, None).evaluate("val")
    assert checkpoint["progress"]["epoch"] == best["epoch"]
    assert (metrics.ap, metrics.auc, metrics.mrr) == (best["ap"], best["auc"], best["mrr"])


def test_a_trainer_that_has_evaluated_may_load_a_checkpoint(data, run):
    checkpoint = load_checkpoint(run / "best.pt")
    fresh = Trainer.resume(data, checkpoint, None)
    used = Trainer(data, small_config())
    used.fit()
    used.load(checkpoint)
    assert [used.evaluate(part) for part in ("val", "test")] == [fresh.evaluate(part) for part in ("val", "test")]


def test_a_trainer_without_a_folder_writes_nothing(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    progress = Trainer(data, small_config(epochs=1, tensorboard=True)).fit()
    assert progress.step == 11
    assert list(tmp_path.iterdir()) == []


def test_a_trainer_that_cannot_start_writes_nothing(data, tmp_path):
    for settings in ({"device": "nowhere"}, {"device": "meta"}, {"device": "cuda:99"}):
        with pytest.raises(ConfigError, match="is not available here; use cpu or auto"):
            Trainer(data, small_config(**settings), tmp_path / "run")
    with pytest.raises(StreamError, match="the validation split has no events"):
        Trainer(data[:2], small_config(), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_training_stops_after_as_many_epochs_without_a_better_one_as_patience_says(data, tmp_path):
    # With nothing learned, the first epoch stays the best.
    progress = Trainer(data, small_config(lr=0.0, epochs=9, patience=2), tmp_path).fit()
    assert (progress.epoch, progress.best_epoch, progress.stopped) == (3, 0, True)
    assert [line["best"] for line in read_log(tmp_path) if line["kind"] == "epoch"] == [True, False, False]


def test_patience_zero_never_stops(data):
    progress = Trainer(data, small_config(lr=0.0, epochs=4, patience=0)).fit()
    assert (progress.epoch, progress.stopped) == (4, False)


def test_fit_on_a_finished_run_changes_nothing(data, tmp_path):
    trainer = Trainer(data, small_config(epochs=1), tmp_path)
    trainer.fit()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    trainer.fit()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_run_that_diverges_says_so_and_keeps_its_last_good_checkpoint(data, tmp_path):
    trainer = Trainer(data, small_config(lr=1e37, checkpoint_every=1), tmp_path)
    with pytest.raises(DivergedError, match=r"epoch 1, batch \d+: the loss is (nan|inf); lower lr, which is 1e\+37"):
        trainer.fit()
    assert all(math.isfinite(loss) for loss in losses(tmp_path))


def test_scores_that_are_no_numbers_are_not_evaluated(data):
    trainer = Trainer(data, small_config())
    trainer.task.head.lin_final.weight.data.fill_(math.nan)
    with pytest.raises(DivergedError, match="evaluation, batch 0: the model's scores are nan"):
        trainer.evaluate("val")


def test_weights_of_a_run_do_not_depend_on_the_evaluation_negatives(data, run, tmp_path):
    Trainer(data, small_config(eval_negatives=7), tmp_path).fit()
    assert losses(tmp_path) == losses(run)
    assert same(contents(tmp_path)["last.pt"]["model"], contents(run)["last.pt"]["model"])


def test_negatives_never_are_destinations_of_the_future(data):
    growing = data.clone()
    growing.dst = torch.arange(data.num_events)
    trainer = Trainer(growing, small_config())
    for part in ("train", "val", "test"):
        batches = trainer.batches(part)
        assert (batches.negatives.low, batches.negatives.high) == (0, batches.events.stop - 1)
    nodes = Trainer(data, small_config(negatives="nodes")).batches("train").negatives
    assert (nodes.low, nodes.high) == (0, int(data.dst.max()))


def test_parts_draw_negatives_of_their_own(data):
    trainer = Trainer(data, small_config())
    drawn = [tuple(trainer.batches(part).read(0, 0).negatives.dst[0].tolist()) for part in ("train", "val", "test")]
    assert len(set(drawn)) == 3


def test_a_run_may_train_in_another_thread(data, run, tmp_path):
    trainer = Trainer(data, small_config(), tmp_path)
    thread = threading.Thread(target=trainer.fit)
    thread.start()
    thread.join()
    assert losses(tmp_path) == losses(run)


def test_without_a_terminal_an_epoch_is_one_line(data):
    shown = io.StringIO()
    Trainer(data, small_config(), console=Console(file=shown)).fit()
    lines = shown.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all("val AP 0." in line and "events/s" in line and "\x1b" not in line for line in lines)


def test_on_a_terminal_there_is_a_bar_with_the_rate(data):
    shown = io.StringIO()
    Trainer(data, small_config(), console=Console(file=shown, force_terminal=True, width=200)).fit()
    assert "train" in shown.getvalue()
    assert "events/s" in shown.getvalue()
    assert "staleness 0" in shown.getvalue()


def test_tensorboard_files_are_written_where_wanted(data, run, tmp_path):
    pytest.importorskip("tensorboard")
    Trainer(data, small_config(epochs=1, tensorboard=True), tmp_path).fit()
    assert len(list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))) == 1
    assert losses(tmp_path) == losses(run)[:11]
    assert not (run / "tensorboard").exists()


def test_training_beats_popularity_by_far_on_the_generated_stream():
    data = synthetic()
    trainer = Trainer(data, TrainConfig(epochs=2, lr=1e-3, memory_dim=50, embedding_dim=50, eval_negatives=1))
    best = trainer.fit().best
    baselines = Baselines.of(trainer.data, trainer.split.train)
    found = evaluate_baselines(baselines, trainer.batches("val", evaluation=True))
    assert best > 0.8
    assert found["popularity"].ap < 0.6
