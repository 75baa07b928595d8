"""Every task on labels, in every mode and plan."""

import numpy as np
import pytest
import torch
from process_runs import PAIRS, ProcessRuns, assert_equal_runs
from small_runs import contents, losses, photograph, photographs, read_log, resume, same, small_config
from tied_stream import tied_stream

from pyg_mspipe import load_run
from pyg_mspipe.data import Labels
from pyg_mspipe.distributed import EmulatedExecutor, ParallelPlan
from pyg_mspipe.tasks import NodeClassification
from pyg_mspipe.training import BatchTrained, CheckpointError, ConfigError, Trainer, load_checkpoint

FEW = {"batch_size": 40, "threads": 1}
KINDS = ("node", "node-moments", "edge", "edge-several", "property")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of labels with moments of their own: classes, and numbers for each class; some after the last event."""
    folder, generator, data = tmp_path_factory.mktemp("labels"), np.random.default_rng(0), tied_stream()
    node, t = generator.integers(0, 30, 300), generator.integers(0, int(data.t.max()) + 2, 300)
    np.savez(folder / "classes.npz", node=node, t=t, y=generator.integers(0, 3, 300))
    days = np.repeat(np.linspace(0, int(data.t.max()), 24).astype(int), 10)
    shares = generator.dirichlet(np.ones(4), 240)
    np.savez(
        folder / "shares.npz", node=generator.integers(0, 30, 240), t=days, y=shares / shares.sum(1, keepdims=True)
    )
    return folder


def case(kind, files):
    """A stream and settings for a kind of labels; most events have none."""
    data, generator = tied_stream(), torch.Generator().manual_seed(0)
    settings = {"task": kind.partition("-")[0]}
    known = torch.rand(data.num_events, generator=generator) < 0.1
    if kind == "node-moments":
        settings["labels"] = str(files / "classes.npz")
    elif kind == "property":
        settings["labels"] = str(files / "shares.npz")
    else:
        shape = (data.num_events, 3) if kind == "edge-several" else (data.num_events,)
        data.y = torch.randint(0, 2 if kind != "edge" else 3, shape, generator=generator).float()
        data.y[~known] = float("nan")
    return data, settings


def trained(data, folder, **settings):
    Trainer(data, small_config(**FEW | settings), folder).fit()
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_exact_training_with_threads_is_sequential_training_bit_for_bit(kind, files, tmp_path, late_stages):
    data, settings = case(kind, files)
    for model, cut_off in (("tgn", "batch"), ("tgn", "event"), ("dyrep", "batch")):
        settings |= {"model": model, "cut_off": cut_off}
        one = trained(data, tmp_path / f"{model}-{cut_off}-one", staleness="sequential", **settings)
        other = trained(data, tmp_path / f"{model}-{cut_off}-other", staleness="exact", overlap="always", **settings)
        assert losses(one) == losses(other)
        assert read_log(one)[1:] == read_log(other)[1:]
        assert len(set(losses(one))) > 5


@pytest.mark.parametrize("world", [2, 4])
def test_every_plan_of_processes_trains_as_its_emulation(world, files, tmp_path):
    expected, found, runs = {}, {}, None
    for kind in ("edge", "property"):
        data, settings = case(kind, files)
        if runs is None:
            runs = ProcessRuns(tmp_path, data)  # property needs none of the stream's labels
        for plan in PAIRS[world]:
            size = ParallelPlan.parse(plan)
            few = {
                "epochs": size.epochs_per_sweep,
                "batch_size": 40 // size.minibatch,
                "checkpoint_every": 0,
                **settings,
            }
            expected[kind, plan] = runs.emulated(kind, plan, **few)
            found[kind, plan] = runs.add(kind, plan, overlap="always", delays=7, **few)
    runs.start(world)
    for name, folder in found.items():
        assert_equal_runs(expected[name], folder, name)


def test_a_run_goes_on_from_any_checkpoint_bit_for_bit(files, tmp_path):
    for kind in ("node-moments", "property"):
        data, settings = case(kind, files)
        whole = tmp_path / kind / "run"
        Trainer(data, small_config(**FEW | settings), whole, listeners=[photograph]).fit()
        for folder in photographs(whole)[1:4]:
            resume(data, folder).fit()
            assert losses(folder) == losses(whole)
            assert same(contents(folder), contents(whole))


def test_a_batch_without_labels_moves_the_memory_and_no_weight(files, tmp_path):
    data, settings = case("node", files)
    data.y[80:160] = float("nan")
    seen, memories = [], []

    def watch(event):
        if isinstance(event, BatchTrained) and event.batch in (1, 3):
            seen.append([x.detach().clone() for x in trainer.objective.parameters()])
            memories.append(load_checkpoint(tmp_path / "run" / "last.pt")["memory"]["last_update"])

    # Losses are fetched at checkpoints, here after each batch.
    config = small_config(**FEW | settings | {"epochs": 1, "checkpoint_every": 1})
    trainer = Trainer(data, config, tmp_path / "run", listeners=[watch])
    trainer.fit()
    before, after = seen
    assert all(map(torch.equal, before, after))
    assert losses(tmp_path / "run")[2:4] == [0.0, 0.0]
    early, late = memories
    assert not early.equal(late)


@pytest.mark.parametrize("staleness", ["2", "minimal"])
def test_memory_may_lag_behind_and_be_repaired(staleness, files, tmp_path):
    data, settings = case("node", files)
    trained(data, tmp_path / "run", staleness=staleness, overlap="always", mitigation="similarity", **settings)
    assert len(losses(tmp_path / "run")) == 22


def test_static_vectors_are_trained_on_the_labels(files, tmp_path):
    data, settings = case("edge", files)
    trained(data, tmp_path / "run", static_dim=4, static_epochs=1, **settings)
    assert (tmp_path / "run" / "static.pt").exists()


@pytest.fixture(scope="module")
def links(tmp_path_factory):
    folder = tmp_path_factory.mktemp("links") / "run"
    trained(tied_stream(), folder, dropout=0.5, memory_dim=12)
    return folder


@pytest.mark.parametrize("model", ["tgn", "apan"])
def test_an_embedder_stays_as_it_was(model, files, tmp_path):
    links = trained(tied_stream(), tmp_path / "links", model=model)
    data, settings = case("node", files)
    trained(data, tmp_path / "run", embeddings=str(links), model=model, **settings)
    before, after = (load_checkpoint(each / "best.pt") for each in (links, tmp_path / "run"))
    assert same(before["model"], after["model"])
    assert after["config"]["embeddings"] == str(links)


def test_an_embedder_embeds_as_it_did_in_its_own_run(files, tmp_path):
    # Whose weights stayed, so that its memory is that of its last weights.
    links = trained(tied_stream(), tmp_path / "links", lr=0.0, dropout=0.5)
    data, settings = case("node", files)
    trained(data, tmp_path / "run", embeddings=str(links), dropout=0.1, **settings)
    nodes = torch.arange(30)
    one, other = (load_run(folder, data=data) for folder in (links, tmp_path / "run"))
    assert torch.equal(one.embed(nodes), other.embed(nodes))
    objective = other.trainer.objective.train()
    parts = {name for name, module in objective.named_modules() if module.training}
    assert {"model", "model.memory", "task"} <= parts
    assert not any(name.startswith(("model.layers", "model.memory.")) for name in parts)


def test_the_sizes_of_an_embedder_are_those_of_its_run(links, files, tmp_path):
    data, settings = case("node", files)
    trainer = Trainer(data, small_config(**FEW | settings | {"embeddings": str(links), "memory_dim": 100}))
    assert trainer.config.memory_dim == 12
    assert trainer.config.dropout == 0.5
    with pytest.raises(ConfigError, match=r"^memory_dim is 16, and 12 in the run .* embeds; leave it out$"):
        Trainer(data, small_config(**FEW | settings | {"embeddings": str(links), "memory_dim": 16}))


def test_every_mode_and_plan_keeps_an_embedder(links, files, tmp_path, late_stages):
    data, settings = case("edge", files)
    settings |= {"embeddings": str(links), "memory_dim": 100}
    one = trained(data, tmp_path / "one", staleness="sequential", **settings)
    other = trained(data, tmp_path / "other", staleness="exact", overlap="always", **settings)
    assert losses(one) == losses(other)
    config = small_config(**FEW | settings | {"parallel": "1x2x1"})
    Trainer(data, config, tmp_path / "plan", executor=EmulatedExecutor()).fit()
    assert same(load_checkpoint(tmp_path / "plan" / "last.pt")["model"], load_checkpoint(links / "best.pt")["model"])


def test_a_run_goes_on_without_that_of_its_embedder(links, files, tmp_path):
    data, settings = case("node", files)
    whole = tmp_path / "whole" / "run"
    config = small_config(**FEW | settings | {"embeddings": str(links), "memory_dim": 100})
    Trainer(data, config, whole, listeners=[photograph]).fit()
    folder = photographs(whole)[1]
    checkpoint = load_checkpoint(folder / "last.pt")
    checkpoint["config"]["embeddings"] = str(tmp_path / "gone")
    Trainer.resume(data, checkpoint, folder).fit()
    assert losses(folder) == losses(whole)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"embeddings": "nowhere"}, CheckpointError, "nowhere does not exist"),
        ({"model": "jodie"}, ConfigError, "^model is jodie, and tgn in the run"),
    ],
)
def test_an_embedder_that_does_not_fit_is_refused(links, files, change, error, said):
    data, settings = case("node", files)
    with pytest.raises(error, match=said):
        Trainer(data, small_config(**FEW | settings | {"embeddings": str(links), "memory_dim": 100} | change)).fit()


def test_an_embedder_of_messages_of_another_width_is_refused(links, files):
    _, settings = case("node", files)
    data = tied_stream(msg_dim=3)
    data.y = torch.randint(0, 2, (data.num_events,), generator=torch.Generator().manual_seed(0))
    with pytest.raises(CheckpointError, match="does not fit this stream, whose messages or features have another"):
        Trainer(data, small_config(**FEW | settings | {"embeddings": str(links), "memory_dim": 100})).fit()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"task": "node"}, "task NodeClassification needs labels and the stream has none; name their column"),
        ({"task": "property"}, "task NodeProperty needs labels and the stream has none"),
        ({"task": "link", "labels": "classes.npz"}, "task link takes no labels; leave out labels, or choose task node"),
        ({"task": "edge", "labels": "classes.npz"}, "task edge is about events, and the labels of a file are of nodes"),
        (
            {"task": "property", "labels": "classes.npz"},
            "task property needs labels with a number for each of at least",
        ),
        (
            {"task": "node", "labels": "shares.npz"},
            "labels of several classes at once are 0 or 1; for other numbers take",
        ),
        ({"task": "link", "class_weights": "balanced"}, "task LinkPrediction takes no class_weights, which this run"),
        (
            {"task": "property", "labels": "shares.npz", "class_weights": "balanced"},
            "task NodeProperty takes no class_w",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(settings, said, files):
    if "labels" in settings:
        settings = settings | {"labels": str(files / settings["labels"])}
    with pytest.raises(ConfigError, match=said) as error:
        Trainer(tied_stream(), small_config(**FEW | settings))
    assert "\n" not in str(error.value)


def test_a_part_without_labels_or_of_one_class_is_refused():
    data = tied_stream()
    data.y = torch.full((data.num_events,), float("nan"))
    data.y[:100] = torch.arange(100) % 2
    with pytest.raises(ConfigError, match="no label is asked for at the validation events; change the split, or give"):
        Trainer(data, small_config(task="node"))
    data.y[:] = 0
    data.y[:100] = torch.arange(100) % 2
    with pytest.raises(ConfigError, match="all labels of the validation events are 0; change the split"):
        Trainer(data, small_config(task="node"))


def test_labels_may_be_given_from_python(tmp_path):
    data = tied_stream()
    labels = Labels.at(data, torch.arange(600) % 30, data.t[:600], torch.arange(600) % 2)
    trainer = Trainer(data, small_config(**FEW | {"task": "node"}), tmp_path / "run", labels=labels)
    assert isinstance(trainer.task, NodeClassification)
    assert trainer.fit().best > 0
    run = load_run(tmp_path / "run", data=data, labels=labels)
    assert run.embed(torch.arange(3)).shape == (3, 8)
    assert run.resume(epochs=3).epoch == 3
    with pytest.raises(ConfigError, match="needs labels and the stream has none"):
        load_run(tmp_path / "run", data=data)


def test_property_batches_begin_wherever_labels_stand(files):
    data, settings = case("property", files)
    trainer = Trainer(data, small_config(**FEW | settings))
    batches = trainer.batches("train")
    ranges = [batches.events_of(index) for index in range(len(batches))]
    assert [each.start for each in ranges[1:]] == [each.stop for each in ranges[:-1]]
    assert (ranges[0].start, ranges[-1].stop) == (0, trainer.split.train.stop)
    assert max(map(len, ranges)) <= 40
    at = set(trainer.task.labels.event.tolist())
    assert at & set(range(ranges[-1].stop)) <= {each.start for each in ranges}
    for index, events in enumerate(ranges):
        batch = batches.read(0, index)
        # All that happened before the label is known to its query, and nothing else.
        assert all(data.t[events.start - 1] < t <= data.t[events.start] for t in batch.query_t.tolist() if events.start)
