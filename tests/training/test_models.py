"""Every built-in model, in every mode and plan."""

from itertools import product

import pytest
import torch
from process_runs import PAIRS, ProcessRuns, assert_equal_runs
from small_runs import contents, losses, read_log, same, small_config
from tied_stream import tied_stream

from pyg_mspipe import load_run
from pyg_mspipe.data import TensorFeatures
from pyg_mspipe.distributed import EmulatedExecutor, ParallelPlan
from pyg_mspipe.models.registry import MODELS
from pyg_mspipe.training import ConfigError, Interrupted, StagesDone, Trainer, load_checkpoint

OTHERS = [name for name in MODELS if name != "tgn"]
FEW = {"batch_size": 70, "threads": 1}


@pytest.fixture(scope="module")
def data():
    return tied_stream()


def trained(data, folder, **settings):
    Trainer(data, small_config(**FEW | settings), folder, node_features=nodes(data)).fit()
    return folder


def nodes(data):
    """Features of the nodes."""
    return TensorFeatures(torch.randn(data.num_nodes, 3, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("cut_off", ["batch", "event"])
@pytest.mark.parametrize("model", OTHERS)
def test_exact_training_with_threads_is_sequential_training_bit_for_bit(data, model, cut_off, tmp_path, late_stages):
    settings = {"model": model, "cut_off": cut_off, "layers": 2 if model == "tgat" else 1}
    if model == "jodie" and cut_off == "event":
        settings["time_reference"] = "gaps"
    one = trained(data, tmp_path / "one", staleness="sequential", **settings)
    other = trained(data, tmp_path / "other", staleness="exact", overlap="always", **settings)
    assert losses(one) == losses(other)
    assert read_log(one)[1:] == read_log(other)[1:]
    both = [contents(folder)["last.pt"] for folder in (one, other)]
    for each in both:
        each.pop("config")
    assert same(*both)


@pytest.mark.parametrize("staleness", ["minimal", "2"])
@pytest.mark.parametrize("model", OTHERS)
def test_no_batch_is_staler_than_its_bound(data, model, staleness, late_stages):
    seen = []

    def note(event):
        if isinstance(event, StagesDone):
            seen.append(event.record)

    config = small_config(model=model, staleness=staleness, overlap="always", **FEW)
    Trainer(data, config, listeners=[note]).fit()
    assert seen
    assert all(0 <= record.staleness <= record.bound for record in seen)
    assert staleness == "minimal" or {record.bound for record in seen} == {2}


@pytest.mark.parametrize("world", [2, 4])
def test_every_plan_of_processes_trains_as_its_emulation(data, world, tmp_path):
    runs, expected, found = ProcessRuns(tmp_path, data[:220]), {}, {}
    for model, plan in product(OTHERS, PAIRS[world]):
        size = ParallelPlan.parse(plan)
        few = {"epochs": size.epochs_per_sweep, "batch_size": 40 // size.minibatch, "model": model}
        expected[model, plan] = runs.emulated(model, plan, checkpoint_every=0, **few)
        found[model, plan] = runs.add(model, plan, overlap="always", delays=7, checkpoint_every=0, **few)
    runs.start(world)
    for (model, plan), folder in found.items():
        assert_equal_runs(folder, expected[model, plan], f"{model} {plan}")


@pytest.mark.parametrize("plan", ["1x1x1", "1x2x1", "1x1x2"])
@pytest.mark.parametrize("model", OTHERS)
def test_a_run_that_was_stopped_goes_on_bit_for_bit(data, model, plan, tmp_path):
    settings = {"model": model, "parallel": plan, "checkpoint_every": 2, **FEW}

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


@pytest.mark.parametrize("model", OTHERS)
def test_a_trained_model_embeds_nodes_at_a_moment(data, model, tmp_path):
    folder = trained(data, tmp_path / "run", model=model, epochs=1)
    run = load_run(folder, data=data, node_features=nodes(data))
    z = run.embed(torch.arange(5))
    assert z.shape == (5, run.trainer.model.embedding_dim)
    assert z.isfinite().all()


@pytest.mark.parametrize("mitigation", ["similarity", "gated", "predictive"])
@pytest.mark.parametrize("model", ["jodie", "apan"])
def test_stale_rows_of_every_memory_are_repaired(data, model, mitigation, tmp_path):
    settings = {"model": model, "staleness": "2", "overlap": "never"}
    plain = trained(data, tmp_path / "plain", **settings)
    repaired = trained(data, tmp_path / "repaired", mitigation=mitigation, **settings)
    assert losses(plain)[0] == losses(repaired)[0], "the first batch misses nothing"
    assert losses(plain) != losses(repaired)


@pytest.mark.parametrize("model", ["tgn", "jodie"])
def test_a_node_is_embedded_as_of_the_moment_that_is_asked_for(data, model, tmp_path):
    folder = trained(data, tmp_path / "run", model=model, epochs=1)
    end = int(data.t[-1])
    one, other = (
        load_run(folder, data=data, node_features=nodes(data), t=end + later).embed(torch.arange(5))
        for later in (1, 10_000)
    )
    assert one.equal(other) == (model == "tgn")


@pytest.mark.parametrize("mitigation", ["gated", "predictive"])
def test_a_model_without_memory_has_nothing_to_mitigate(data, mitigation):
    with pytest.raises(ConfigError, match="model TGAT takes no mitigation, which this run needs"):
        Trainer(data, small_config(model="tgat", staleness="2", mitigation=mitigation))


def test_static_vectors_have_no_place_in_a_model_without_memory(data):
    with pytest.raises(ConfigError, match="model TGAT takes no static node vectors; leave out static_dim"):
        Trainer(data, small_config(model="tgat", static_dim=4))
