import math
from dataclasses import replace

import pytest
import torch
from small_runs import (
    contents,
    emulated,
    losses,
    photograph,
    photographs,
    read_log,
    same,
    small_config,
    small_stream,
    uneven_stream,
)

from pyg_mspipe.distributed import EmulatedExecutor, ParallelPlan, PlanError, SweepSchedule
from pyg_mspipe.distributed.visits import Visits
from pyg_mspipe.training import SingleExecutor, Trainer, load_checkpoint

SINGLE = {
    "defaults": {},
    "two layers, uniform": {"layers": 2, "num_neighbors": 3, "strategy": "uniform"},
    "event cut-off, all nodes": {"cut_off": "event", "negatives": "nodes"},
    "static memory": {"static_dim": 6, "static_epochs": 1},
}


def config(plan, **settings):
    """Of a run whose last batch has a single event; the lr is that of a single trainer."""
    return small_config(**{"batch_size": 35, "parallel": plan, "lr_scaling": "none", "threads": 1} | settings)


def watched(data, config, folder=None):
    """An emulation, and what each trainer is given in each step of it, with its share of the loss."""
    trainer, seen = emulated(data, config, folder), []
    steps = trainer.executor.steps
    train = steps.train

    def noting(objective, model, hand_over, visits, seat, step):
        loss = train(objective, model, hand_over, visits, seat, step)
        turn = steps.schedule.assignment(seat, step)
        batch = None if turn is None or not visits.batches else visits.batches[turn.visit]
        seen.append((trainer.progress.epoch, step, seat, turn, batch, loss.item()))
        return loss

    steps.train = noting
    return trainer, seen


@pytest.fixture(scope="module")
def data():
    return uneven_stream()


def plain_pass(data, settings, batches):
    """The memory of a single trainer whose weights never change, which begins with some batches."""
    trainer = Trainer(data, replace(settings, parallel="1x1x1"))
    source = trainer.batches("train")
    source.batch_size *= int(settings.parallel[0])
    source.memory_begin = source.events_of(batches[0]).start
    trainer.model.memory.state.clear(source.memory_begin)
    for index in batches:
        trainer.model.update(source.gather(source.without_queries(source.events_of(index))))
    return trainer.model.memory.state.save()


def assert_close(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("settings", list(SINGLE.values()), ids=SINGLE)
def test_a_single_trainer_is_emulated_bit_for_bit(data, tmp_path, settings):
    one, other = tmp_path / "single", tmp_path / "emulated"
    Trainer(data, config("1x1x1", **settings), one).fit()
    emulated(data, config("1x1x1", **settings), other).fit()
    assert read_log(one) == read_log(other)
    assert same(contents(one), contents(other))
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())


@pytest.mark.parametrize(("plan", "cut_off"), [("2x1x1", "batch"), ("2x1x1", "event"), ("3x1x1", "batch")])
def test_trainers_that_share_a_batch_train_as_one_does_on_the_whole_batch(data, tmp_path, plan, cut_off):
    parts = int(plan[0])
    common = {"dropout": 0.0, "cut_off": cut_off, "epochs": 1}
    # The cosine of a million seconds would make much of the rounding of a weight.
    data = data.clone()
    data.t = torch.arange(data.num_events)
    # 43 or 29 batches; the last has fewer events than there are trainers.
    split = emulated(data, config(plan, batch_size=5, **common), tmp_path / "split")
    whole = Trainer(data, config("1x1x1", batch_size=5 * parts, **common), tmp_path / "whole")
    for trainer in (split, whole):
        trainer.fit()
    assert len(split.data.src[split.split.train.start : split.split.train.stop]) % (5 * parts) == 1
    torch.testing.assert_close(losses(tmp_path / "split"), losses(tmp_path / "whole"), atol=1e-5, rtol=1e-5)
    one, other = (contents(tmp_path / name)["last.pt"]["memory"] for name in ("split", "whole"))
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=1e-3, rtol=1e-3)


def test_each_epoch_of_a_sweep_has_the_negatives_that_a_single_trainer_has_in_it(data):
    trainer, seen = watched(data, config("1x2x2", epochs=8))
    trainer.fit()
    single = Trainer(data, config("1x1x1"))
    found = {}
    for _, _, _, turn, batch, _ in seen:
        if batch is not None:
            found.setdefault(turn.batch, []).append(batch)
    assert sorted(found) == list(range(13))
    for index, batches in found.items():
        expected = [single.batches("train").read(epoch, index) for epoch in range(8)]
        assert len(batches) == 8
        assert all(each.events == expected[0].events for each in batches)
        negatives = sorted(tuple(each.negatives.dst.view(-1).tolist()) for each in batches)
        assert negatives == sorted(tuple(each.negatives.dst.view(-1).tolist()) for each in expected)


@pytest.mark.parametrize(("plan", "steps"), [("1x2x1", 14), ("1x3x1", 15), ("2x2x1", 8), ("1x1x2", 13), ("1x2x2", 14)])
def test_a_sweep_has_a_step_for_each_batch_and_one_more_for_each_further_slot(data, tmp_path, plan, steps):
    i, j, k = map(int, plan.split("x"))
    epochs = 2 * j * k
    trainer, seen = watched(data, config(plan, epochs=epochs), tmp_path)
    trainer.fit()
    lines = [line for line in read_log(tmp_path) if line["kind"] == "batch"]
    assert [line["step"] for line in lines] == list(range(2 * steps))
    assert [line["batch"] for line in lines] == 2 * list(range(steps))
    assert [line["epoch"] for line in lines] == steps * [0] + steps * [j * k]
    ends = [line["epoch"] for line in read_log(tmp_path) if line["kind"] == "epoch"]
    assert ends == [j * k - 1, 2 * j * k - 1]
    trained = sum(len(batch.events) for *_, batch, _ in seen if batch is not None)
    assert trained == epochs * 421
    assert i * j * k == len({seat.rank for _, _, seat, *_ in seen})


def test_a_step_has_the_mean_loss_of_all_events_that_are_trained_in_it(data, tmp_path):
    # Without learning and dropout, a batch's loss depends on the epoch of its negatives alone.
    common = {"lr": 0.0, "dropout": 0.0, "epochs": 2}
    Trainer(data, config("1x1x1", **common), tmp_path / "single").fit()
    emulated(data, config("1x2x1", **common), tmp_path / "plan").fit()
    single = losses(tmp_path / "single")
    first, second = single[:13], single[13:]
    sizes = [35] * 12 + [1]
    expected = []
    for step in range(14):
        parts = [(first, step), (second, step - 1)]
        held = [(each[index], sizes[index]) for each, index in parts if 0 <= index < 13]
        expected.append(sum(loss * size for loss, size in held) / sum(size for _, size in held))
    torch.testing.assert_close(losses(tmp_path / "plan"), expected, atol=1e-6, rtol=1e-6)
    ends = [read_log(tmp_path / name)[-1] for name in ("single", "plan")]
    assert ends[1]["loss"] == pytest.approx((sum(x * n for x, n in zip(single, 2 * sizes, strict=True))) / 842)
    # The weights are the same, and so is what is seen of the validation events.
    assert ends[0]["ap"] == ends[1]["ap"]


def test_memory_groups_go_through_the_stream_from_their_segments_on(data):
    trainer, seen = watched(data, config("1x1x3", epochs=3))
    trainer.fit()
    for group, first in enumerate((0, 4, 8)):
        batches = [turn.batch for _, _, seat, turn, _, _ in seen if seat.group == group]
        assert batches == [*range(first, 13), *range(first)]


@pytest.mark.parametrize("plan", ["1x1x2", "2x1x2", "1x2x2", "1x1x3"])
@pytest.mark.parametrize("sweeps", [1, 2])
def test_a_groups_memory_is_that_of_a_plain_pass_over_its_batches_since_it_was_reset(data, tmp_path, plan, sweeps):
    i, j, k = map(int, plan.split("x"))
    settings = config(plan, epochs=sweeps * j * k, lr=0.0, patience=0, checkpoint_every=6)
    trainer = emulated(data, settings, tmp_path / "run", listeners=[photograph])
    trainer.fit()
    batches = trainer.executor.steps.schedule.num_batches
    assert_close(load_checkpoint(tmp_path / "run" / "last.pt")["memory"], plain_pass(data, settings, range(batches)))
    for group in range(1, k):
        first = group * batches // k
        found = trainer.executor.objectives[group].model.memory.state.save()
        assert_close(found, plain_pass(data, settings, range(first)))
    # Some group has come to the stream's end since its sweep began, or even gone on from its start.
    early = photographs(tmp_path / "run")[0]
    assert_close(load_checkpoint(early / "last.pt")["memory"], plain_pass(data, settings, range(6)))
    for group in range(1, k):
        order = [*range(group * batches // k, batches), *range(batches)][:7]
        since_reset = order[order.index(0) : 6] if 0 in order else order[:6]
        saved = load_checkpoint(early / f"last.6.rank{group * i * j}.pt")["memory"]
        assert_close(saved, plain_pass(data, settings, since_reset))


def test_trainers_have_dropout_of_their_own(data):
    # Both slots hold the same batch, version and negatives only if nothing else is random.
    for plan in ("1x1x2", "2x1x1"):
        trainer = emulated(data, config(plan))
        states = [part["rng"] for part in trainer.executor.parts(0).values()]
        assert len({tuple(state.tolist()) for state in states}) == len(states) == 2


@pytest.mark.parametrize(("scaling", "factor"), [("linear", 4), ("sqrt", 2), ("none", 1)])
def test_the_learning_rate_grows_with_the_number_of_trainers(data, tmp_path, scaling, factor):
    settings = config("2x1x2", lr_scaling=scaling, epochs=2)
    trainer = emulated(data, settings, tmp_path)
    for _ in range(2):
        assert [group["lr"] for group in trainer.optimizer.param_groups] == [pytest.approx(factor * settings.lr)]
        trainer.fit(replace=True)
    trainer = emulated(data, config("1x1x1", lr_scaling=scaling))
    trainer.load(load_checkpoint(tmp_path / "last.pt"))
    assert trainer.optimizer.param_groups[0]["lr"] == settings.lr


def test_parts_of_a_batch_have_events_in_turn_even_where_it_has_fewer_than_parts(data):
    trainer, seen = watched(data, config("4x1x1", epochs=1))
    trainer.fit()
    last = [
        (batch, loss) for _, step, _, _, batch, loss in seen if step == trainer.executor.steps.schedule.num_steps - 1
    ]
    assert [None if batch is None else list(batch.events) for batch, _ in last] == [None, None, None, [420]]
    assert [loss for _, loss in last[:3]] == [0.0] * 3
    assert last[3][1] > 0
    assert trainer.model.memory.state.span.end >= 421


@pytest.mark.parametrize("plan", ["1x2x1", "2x1x1", "1x1x2", "2x2x1", "1x3x1"])
def test_every_plan_resumes_bit_for_bit_from_any_checkpoint(data, tmp_path, plan):
    _, j, k = map(int, plan.split("x"))
    settings = config(plan, epochs=2 * j * k, checkpoint_every=3)
    whole = tmp_path / "whole"
    emulated(data, settings, whole, listeners=[photograph]).fit()
    taken = photographs(whole)
    places = [load_checkpoint(folder / "last.pt")["progress"]["batch"] for folder in taken]
    middles = [folder for folder, batch in zip(taken, places, strict=True) if batch]
    chosen = [middles[0], middles[-2], taken[places.index(0)]]
    for folder in chosen:
        torch.rand(3)
        Trainer.resume(data, load_checkpoint(folder / "last.pt"), folder, executor=EmulatedExecutor()).fit()
        assert read_log(folder) == read_log(whole)
        assert same(contents(folder), contents(whole))
        files = sorted(path.name for path in whole.iterdir())
        assert files == sorted(path.name for path in folder.iterdir())
        for name in files:
            if "rank" in name:
                assert same(load_checkpoint(folder / name), load_checkpoint(whole / name))


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("1x2x1", "2x1x2", EmulatedExecutor),
        ("2x1x1", "1x1x1", EmulatedExecutor),
        ("1x1x1", "1x2x2", EmulatedExecutor),
        ("2x1x1", "1x1x1", SingleExecutor),
    ],
)
def test_under_another_plan_the_sweep_begins_again_with_the_weights_of_the_checkpoint(
    data, tmp_path, before, after, kind
):
    settings = config(before, epochs=4, patience=0)
    emulated(data, settings, tmp_path / "run", listeners=[photograph]).fit()
    taken = [load_checkpoint(folder / "last.pt") for folder in photographs(tmp_path / "run")]
    index = max(n for n, each in enumerate(taken) if each["progress"]["batch"] == 4)
    checkpoint, folder = taken[index], photographs(tmp_path / "run")[index]
    done = checkpoint["progress"]["epoch"]
    assert done > 0
    trainer = Trainer(data, config(after, epochs=8, patience=0), folder, executor=kind())
    trainer.load(checkpoint)
    assert (trainer.progress.epoch, trainer.progress.batch, trainer.progress.loss_sum) == (done, 0, 0.0)
    weights = trainer.model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in checkpoint["model"].items())
    progress = trainer.fit()
    assert progress.epoch >= 8
    assert all(map(math.isfinite, losses(folder)))
    plan = ParallelPlan.parse(after)
    sweeps = -(-(8 - done) // plan.epochs_per_sweep)
    num_steps = SweepSchedule(plan, 7 if plan.minibatch == 2 else 13).num_steps
    steps = sweeps * num_steps
    lines = [line for line in read_log(folder) if line["kind"] == "batch"]
    assert [line["step"] for line in lines] == list(range(len(lines)))
    assert [line["batch"] for line in lines[-steps:]] == sweeps * list(range(num_steps))
    # The learned is not lost: another sweep does better than the first ever did.
    assert sum(losses(folder)[-steps:]) / steps < sum(losses(folder)[:13]) / 13
    # What the last checkpoint needs is there, and nothing of those before it.
    ranks = {path.name for path in folder.glob("last.*.rank*.pt")}
    expected = {f"last.{progress.step}.rank{rank}.pt" for rank in range(plan.world)}
    assert ranks == (expected if plan.world > 1 else set())


def test_a_run_of_another_plan_removes_the_files_of_all_ranks_that_were_there(data, tmp_path):
    emulated(data, config("2x1x2", epochs=2), tmp_path).fit()
    assert len(list(tmp_path.glob("last.*.rank*.pt"))) == 4
    emulated(data, config("1x1x1", epochs=1), tmp_path).fit(replace=True)
    assert not list(tmp_path.glob("last.*.rank*.pt"))


def test_a_stream_of_fewer_batches_than_memory_groups_is_refused():
    with pytest.raises(PlanError, match="2 batches cannot begin at 3 places; take a smaller k or batch size"):
        emulated(small_stream(num_events=100), config("1x1x3"))


def test_a_visit_without_events_reads_nothing():
    visits = Visits(0, range(0), ())
    visits.fetch(None)
    assert visits.plan is None
    assert visits.batches == ()
