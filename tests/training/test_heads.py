"""Runs whose heads read features and common neighbours of pairs, in every mode and plan."""

import pytest
import torch
from process_runs import PLANS, ProcessRuns, assert_equal_runs
from small_runs import contents, losses, read_log, same, small_config
from tied_stream import tied_stream

from pyg_mspipe import load_run
from pyg_mspipe.models.registry import MODELS
from pyg_mspipe.training import ConfigError, Interrupted, Trainer, load_checkpoint

HEAD = {"head": "common", "pair_features": True, "loss": "softmax", "train_negatives": 3, "negatives": "historical"}
FEW = {"batch_size": 70, "threads": 1, **HEAD}


@pytest.fixture(scope="module")
def data():
    return tied_stream()


def trained(data, folder, **settings):
    trainer = Trainer(data, small_config(**FEW | settings), folder)
    trainer.fit()
    return trainer


@pytest.mark.parametrize(
    "settings",
    [{"model": model} for model in MODELS] + [{"cut_off": "event"}, {"model": "tgat", "layers": 2}],
    ids=lambda settings: " ".join(map(str, settings.values())),
)
def test_exact_training_with_threads_is_sequential_training_bit_for_bit(data, settings, tmp_path, late_stages):
    one, other = tmp_path / "one", tmp_path / "other"
    trained(data, one, staleness="sequential", **settings)
    trained(data, other, staleness="exact", overlap="always", **settings)
    assert losses(one) == losses(other)
    assert read_log(one)[1:] == read_log(other)[1:]
    both = [contents(folder)["last.pt"] for folder in (one, other)]
    for each in both:
        each.pop("config")
    assert same(*both)


def test_every_plan_of_two_processes_trains_as_its_emulation(data, tmp_path):
    runs, expected, found = ProcessRuns(tmp_path, data[:220]), {}, {}
    for plan in PLANS[2]:
        few = {"batch_size": 20 if plan == "2x1x1" else 40, **HEAD}
        expected[plan] = runs.emulated("heads", plan, checkpoint_every=0, **few)
        found[plan] = runs.add("heads", plan, overlap="always", delays=7, checkpoint_every=0, **few)
    runs.start(2)
    for plan, folder in found.items():
        assert_equal_runs(folder, expected[plan], plan)


def test_a_run_that_was_stopped_goes_on_bit_for_bit(data, tmp_path):
    trained(data, tmp_path / "whole", checkpoint_every=2)
    seen = 0

    def stop(event):
        nonlocal seen
        seen += type(event).__name__ == "Saved"
        if seen == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        Trainer(data, small_config(**FEW, checkpoint_every=2), tmp_path / "part", listeners=[stop]).fit()
    Trainer.resume(data, load_checkpoint(tmp_path / "part" / "last.pt"), tmp_path / "part").fit()
    assert losses(tmp_path / "part") == losses(tmp_path / "whole")
    assert same(contents(tmp_path / "part"), contents(tmp_path / "whole"))


@pytest.mark.parametrize("model", ["tgn", "jodie"])
def test_a_run_scores_pairs_as_one_by_one(data, model, tmp_path):
    trained(data, tmp_path / "run", model=model, epochs=1)
    run = load_run(tmp_path / "run", data=data)
    src, dst = data.src[-6:], data.dst[-6:]
    scores = run.score(src, dst)
    alone = torch.cat([run.score(u, v) for u, v in zip(src.split(1), dst.split(1), strict=True)])
    torch.testing.assert_close(scores, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(run.score(src[:1], dst)[:1], scores[:1], rtol=1e-4, atol=1e-5)
    assert scores.unique().numel() > 1


def test_historical_negatives_are_those_of_training_alone(data):
    plain, historical = (
        Trainer(data, small_config(negatives=negatives, threads=1)) for negatives in ("destinations", "historical")
    )
    for part in ("val", "test"):
        drawn = [trainer.batches(part, evaluation=True).read(0, 0).negatives.dst for trainer in (plain, historical)]
        assert torch.equal(*drawn)
    drawn = [trainer.batches("train").read(0, 5) for trainer in (plain, historical)]
    assert not torch.equal(drawn[0].negatives.dst, drawn[1].negatives.dst)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"head": "common"}, "head"),
        ({"pair_features": True}, "pair_features"),
        ({"loss": "softmax"}, "loss"),
        ({"train_negatives": 2}, "train_negatives"),
        ({"negatives": "historical"}, "draws no negatives in training; leave out negatives historical"),
    ],
)
def test_what_means_nothing_to_a_task_is_refused(data, settings, message):
    labelled = data.clone()
    labelled.y = torch.arange(data.num_events) % 2
    with pytest.raises(ConfigError, match=message):
        Trainer(labelled, small_config(task="node", **settings))


@pytest.mark.parametrize("setting", [{"head": "bilinear"}, {"loss": "hinge"}, {"train_negatives": 0}])
def test_unknown_values_are_refused(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        small_config(**setting)
