"""Heads that read more of pairs than embeddings, and training with harder negatives, in every mode and plan."""

import pytest
import torch
from process_runs import PLANS, ProcessRuns, assert_equal_runs
from small_runs import contents, losses, read_log, same, small_config
from tied_stream import tied_stream

from pyg_mspipe import load_run
from pyg_mspipe.distributed import EmulatedExecutor, ParallelPlan
from pyg_mspipe.models import TGN, TemporalModel
from pyg_mspipe.models.registry import MODELS
from pyg_mspipe.tasks import LinkPrediction
from pyg_mspipe.training import ConfigError, Interrupted, Trainer, load_checkpoint

ALL = {
    "head": "common",
    "pair_features": True,
    "negatives": "historical",
    "train_negatives": 3,
    "loss": "softmax",
    "batch_size": 70,
    "threads": 1,
}


@pytest.fixture(scope="module")
def data():
    return tied_stream()


def trained(data, folder, **settings):
    Trainer(data, small_config(**ALL | settings), folder).fit()
    return folder


@pytest.mark.parametrize("cut_off", ["batch", "event"])
@pytest.mark.parametrize("model", MODELS)
def test_exact_training_with_threads_is_sequential_training_bit_for_bit(data, model, cut_off, tmp_path, late_stages):
    settings = {"model": model, "cut_off": cut_off, "layers": 2 if model == "tgat" else 1}
    one = trained(data, tmp_path / "one", staleness="sequential", **settings)
    other = trained(data, tmp_path / "other", staleness="exact", overlap="always", **settings)
    assert losses(one) == losses(other)
    assert read_log(one)[1:] == read_log(other)[1:]
    both = [contents(folder)["last.pt"] for folder in (one, other)]
    for each in both:
        each.pop("config")
    assert same(*both)


def test_every_plan_of_processes_trains_as_its_emulation(data, tmp_path):
    runs, expected, found = ProcessRuns(tmp_path, data[:220]), {}, {}
    for plan in PLANS[2]:
        size = ParallelPlan.parse(plan)
        few = ALL | {"epochs": size.epochs_per_sweep, "batch_size": 40 // size.minibatch}
        expected[plan] = runs.emulated("all", plan, checkpoint_every=0, **few)
        found[plan] = runs.add("all", plan, overlap="always", delays=7, checkpoint_every=0, **few)
    runs.start(2)
    for plan, folder in found.items():
        assert_equal_runs(folder, expected[plan], plan)


@pytest.mark.parametrize("plan", ["1x1x1", "1x2x1", "1x1x2"])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(data, plan, tmp_path):
    settings = ALL | {"parallel": plan, "checkpoint_every": 2}

    def executor():
        return None if plan == "1x1x1" else EmulatedExecutor()

    def make(folder, **options):
        return Trainer(data, small_config(**settings), folder, executor=executor(), **options)

    make(tmp_path / "whole").fit()
    seen = 0

    def stop(event):
        nonlocal seen
        seen += type(event).__name__ == "Saved"
        if seen == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        make(tmp_path / "part", listeners=[stop]).fit()
    checkpoint = load_checkpoint(tmp_path / "part" / "last.pt")
    Trainer.resume(data, checkpoint, tmp_path / "part", executor=executor()).fit()
    assert losses(tmp_path / "part") == losses(tmp_path / "whole")
    assert same(contents(tmp_path / "part"), contents(tmp_path / "whole"))


@pytest.mark.parametrize("settings", [{"head": "mlp"}, {"pair_features": False}, {}])
def test_a_run_scores_pairs_as_its_batches_do(data, settings, tmp_path):
    folder = trained(data, tmp_path / "run", epochs=1, **settings)
    first = Trainer(data, small_config()).split.test.start
    moment = int(data.t[first])
    run = load_run(folder, data=data, t=moment)
    trainer = Trainer.resume(data, load_checkpoint(folder / "best.pt"), folder)
    trainer.evaluate("val")
    batch = trainer.batches("test").read(0, 0)
    with torch.no_grad():
        expected = trainer.objective._of(batch, trainer.task.logits)[0]
    there = batch.t == moment
    src, dst = batch.src[there], batch.dst[there]
    torch.testing.assert_close(run.score(src, dst), expected[there])
    torch.testing.assert_close(run.score(src[:1], dst)[0], expected[0])


def test_negatives_of_training_are_what_sources_have_met_and_those_of_evaluation_are_not(data):
    one, other = (Trainer(data, small_config(**ALL | {"negatives": name})) for name in ("historical", "destinations"))
    drawn = [
        [
            trainer.batches(part, evaluation=part != "train").read(0, 0).negatives.dst
            for part in ("train", "val", "test")
        ]
        for trainer in (one, other)
    ]
    assert drawn[0][0].shape == (3, 70)
    assert not torch.equal(drawn[0][0], drawn[1][0])
    assert all(map(torch.equal, drawn[0][1:], drawn[1][1:]))


def test_static_vectors_are_trained_with_the_plain_head(data, tmp_path):
    folder = trained(data, tmp_path / "run", epochs=1, static_dim=4, static_epochs=1)
    assert losses(folder)


class NoRows(TGN):
    """A model that hands out no rows."""

    embed_with_rows = TemporalModel.embed_with_rows

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.row_dim = 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "node", "head": "common"}, "task NodeClassification takes no head, which this run needs"),
        ({"task": "node", "pair_features": True}, "takes no pair_features, which this run needs"),
        ({"task": "edge", "loss": "softmax"}, "task EdgeClassification takes no loss, which this run needs"),
        ({"task": "node", "train_negatives": 2}, "takes no train_negatives, which this run needs"),
        ({"task": "node", "negatives": "historical"}, "task NodeClassification draws no negatives in training; leave"),
    ],
)
def test_settings_that_mean_nothing_for_a_task_are_refused(data, settings, message):
    labelled = data.clone()
    labelled.y = torch.randint(2, (data.num_events,), generator=torch.Generator().manual_seed(0))
    with pytest.raises(ConfigError, match=message):
        Trainer(labelled, small_config(**settings))


def test_a_model_that_hands_out_no_rows_has_no_common_neighbors_and_is_told_so(data):
    with pytest.raises(ConfigError, match="this model hands out no rows of them; let it define row_dim"):
        Trainer(data, small_config(head="common"), model=NoRows)
    with pytest.raises(ValueError, match="model NoRows hands out no rows of nodes; let it define row_dim and embed_w"):
        NoRows(4, 0).embed_with_rows(None)
    assert Trainer(data, small_config(pair_features=True), model=NoRows).task.pair_features


def test_a_task_of_ones_own_may_take_none_of_it(data):
    class Plain(LinkPrediction):
        def __init__(self, embedding_dim):
            super().__init__(embedding_dim, eval_negatives=2)

    Trainer(data, small_config(epochs=1), task=Plain).fit()
    with pytest.raises(ConfigError, match="task Plain takes no head, which this run needs"):
        Trainer(data, small_config(head="common"), task=Plain)
