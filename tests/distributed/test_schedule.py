from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_plans import assignments, schedules

from pyg_mspipe.distributed import Assignment, ParallelPlan, PlanError, SweepSchedule


def test_a_sweep_of_two_groups_of_two_slots_is_this():
    schedule = SweepSchedule(ParallelPlan(1, 2, 2), 5)
    rows = []
    for seat in schedule.plan.seats():
        row = [schedule.assignment(seat, step) for step in range(schedule.num_steps)]
        rows.append(" ".join("--" if each is None else f"{each.batch}{'RW'[each.visit]}" for each in row))
    assert rows == [
        "0R 0W 2R 2W 4R 4W",
        "-- 1R 1W 3R 3W --",
        "2R 2W 4R 4W 1R 1W",
        "-- 3R 3W 0R 0W --",
    ]


@given(schedules())
def test_a_groups_sweep_commits_every_batch_once_in_cyclic_order_from_its_segment(schedule):
    plan, batches = schedule.plan, schedule.num_batches
    for group in range(plan.memory):
        for part in range(plan.minibatch):
            commits = []
            for rank in plan.ranks(group):
                seat = plan.seat(rank)
                if seat.part == part:
                    commits += [(step, each) for step, each in assignments(schedule, seat).items() if each.visit == 0]
            commits.sort(key=lambda commit: commit[0])
            # One commit in each step, so that the version that a batch reads is its position.
            assert [step for step, _ in commits] == list(range(batches))
            assert [assignment.position for _, assignment in commits] == list(range(batches))
            first = group * batches // plan.memory
            assert [assignment.batch for _, assignment in commits] == [*range(first, batches), *range(first)]


@given(schedules())
def test_a_batch_is_held_for_j_consecutive_steps_by_the_same_trainers(schedule):
    plan = schedule.plan
    held = {}
    for seat in plan.seats():
        for step, assignment in assignments(schedule, seat).items():
            held.setdefault((seat.group, assignment.position, seat.part), []).append((step, seat.rank, assignment))
    assert len(held) == plan.memory * schedule.num_batches * plan.minibatch
    for (group, position, part), visits in held.items():
        assert [step for step, _, _ in visits] == list(range(position, position + plan.epoch))
        assert [assignment.visit for _, _, assignment in visits] == list(range(plan.epoch))
        assert len({rank for _, rank, _ in visits}) == 1
        assert {assignment.batch for _, _, assignment in visits} == {schedule.batch_at(group, position)}
        assert plan.seat(visits[0][1]).part == part


@given(schedules())
def test_no_two_slots_of_a_group_hold_the_same_batch_and_all_parts_of_a_slot_do(schedule):
    plan = schedule.plan
    for step in range(schedule.num_steps):
        for group in range(plan.memory):
            by_slot = {}
            for seat in map(plan.seat, plan.ranks(group)):
                by_slot.setdefault(seat.slot, set()).add(schedule.assignment(seat, step))
            assert all(len(each) == 1 for each in by_slot.values())
            batches = [assignment.batch for each in by_slot.values() for assignment in each if assignment is not None]
            assert len(batches) == len(set(batches))


@given(schedules())
def test_some_trainer_of_every_group_has_something_to_do_in_every_step_and_none_after_the_last(schedule):
    plan = schedule.plan
    for group in range(plan.memory):
        seats = [plan.seat(rank) for rank in plan.ranks(group)]
        for step in range(schedule.num_steps):
            assert any(schedule.assignment(seat, step) is not None for seat in seats)
        for step in (-1, *range(schedule.num_steps, schedule.num_steps + 2 * plan.epoch)):
            assert all(schedule.assignment(seat, step) is None for seat in seats)


@given(schedules())
def test_all_slots_are_busy_but_at_the_ends_of_a_sweep(schedule):
    inner = range(schedule.plan.epoch - 1, schedule.num_batches)
    for seat in schedule.plan.seats():
        assert all(schedule.assignment(seat, step) is not None for step in inner)


@given(schedules())
def test_a_trainers_positions_are_those_of_its_turns(schedule):
    for seat in schedule.plan.seats():
        first = [assignment.position for assignment in assignments(schedule, seat).values() if assignment.visit == 0]
        assert list(schedule.positions(seat)) == first


@given(schedules(), st.integers(1, 4))
def test_no_two_sweeps_groups_or_visits_have_the_same_negatives(schedule, sweeps):
    plan = schedule.plan
    numbers = [
        schedule.epoch(sweep, group, visit)
        for sweep in range(sweeps)
        for group in range(plan.memory)
        for visit in range(plan.epoch)
    ]
    assert sorted(numbers) == list(range(sweeps * plan.epochs_per_sweep))


@given(st.integers(1, 20), st.integers(0, 9))
def test_a_single_trainer_goes_through_the_stream_as_without_a_plan(batches, sweep):
    schedule = SweepSchedule(ParallelPlan(), batches)
    (seat,) = schedule.plan.seats()
    assert schedule.num_steps == batches
    assert list(assignments(schedule, seat).values()) == [Assignment(batch, batch, 0) for batch in range(batches)]
    assert schedule.epoch(sweep, 0, 0) == sweep


@given(schedules(), st.integers(0, 50), st.integers(0, 30))
def test_parts_lie_one_after_the_other_cover_the_batch_and_are_of_nearly_one_size(schedule, start, size):
    plan, events = schedule.plan, range(start, start + size)
    parts = [schedule.part(events, plan.seat(rank)) for rank in range(plan.minibatch)]
    assert [event for part in parts for event in part] == list(events)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    for seat in plan.seats():
        assert schedule.part(events, seat) == parts[seat.part]


@given(schedules())
def test_memory_is_accessed_in_the_order_of_disttgl(schedule):
    plan = schedule.plan
    order = list(schedule.order())
    # (R_0 .. R_{i-1}) (W_0 .. W_{i-1}) (R_i ..) ...: R_n and W_n are those of the n-th part of all batches.
    numbered = [(kind, position * plan.minibatch + part) for kind, position, part in order]
    expected = []
    for first in range(0, schedule.num_batches * plan.minibatch, plan.minibatch):
        parts = range(first, first + plan.minibatch)
        expected += [("read", n) for n in parts] + [("commit", n) for n in parts]
    assert numbered == expected
    assert {part for _, _, part in order} == set(range(plan.minibatch))


@given(schedules())
def test_groups_begin_apart_at_their_share_of_the_stream(schedule):
    plan = schedule.plan
    first = [schedule.first_batch(group) for group in range(plan.memory)]
    assert first[0] == 0
    ends = [*first, schedule.num_batches]
    gaps = [after - before for before, after in pairwise(ends)]
    assert min(gaps) >= 1
    assert max(gaps) - min(gaps) <= 1
    assert [schedule.batch_at(group, 0) for group in range(plan.memory)] == first


def test_a_sweep_with_fewer_batches_than_groups_is_refused():
    message = "^2 batches cannot begin at 3 places; take a smaller k or batch size$"
    with pytest.raises(PlanError, match=message):
        SweepSchedule(ParallelPlan(1, 1, 3), 2)
    assert SweepSchedule(ParallelPlan(1, 1, 3), 3).num_steps == 3
