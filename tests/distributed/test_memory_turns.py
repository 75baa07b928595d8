import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import product

import pytest
import torch.distributed as dist
from access_order import assert_in_order
from processes import patience
from torch.distributed import TCPStore

from pyg_mspipe.distributed import ParallelPlan, SweepSchedule
from pyg_mspipe.distributed.memory_turns import AccessRecord, MemoryTurns, TurnsCancelledError

PLANS = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (1, 3), (3, 2)]
HOST = "localhost"


def serve():
    return TCPStore(HOST, 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=patience()))


class Group:
    """The trainers of a memory group, in threads: each reads in one and commits in another."""

    def __init__(self, plan):
        self.server = serve()
        self.plan = plan
        self.logs = [[] for _ in plan.seats()]
        self.turns = [
            MemoryTurns(HOST, self.server.port, plan.minibatch, seat.part, patience(), log)
            for seat, log in zip(plan.seats(), self.logs, strict=True)
        ]
        self.commits = []
        self.seen = {}
        self.most_keys = 0

    def sweep(self, num_batches, *, first=0, name="0", seed=0, longest=0.004):
        """Goes through a sweep and gives the log of all accesses."""
        schedule = SweepSchedule(self.plan, num_batches)
        for log in self.logs:
            log.clear()
        for turns in self.turns:
            turns.start(name, first)
        with ThreadPoolExecutor(2 * self.plan.world) as pool:
            work = []
            for seat in self.plan.seats():
                positions = [position for position in schedule.positions(seat) if position >= first]
                read = {position: threading.Event() for position in positions}
                draws = random.Random(f"{seed} {seat.rank}")
                for task in (self.read, self.commit):
                    work.append(pool.submit(task, seat, positions, read, random.Random(draws.random()), longest))
            for each in work:
                each.result()
        return [record for log in self.logs for record in log]

    def read(self, seat, positions, read, draws, longest):
        turns = self.turns[seat.rank]
        for position in positions:
            time.sleep(draws.random() * longest)
            turns.begin_read(position)
            self.seen[position, seat.part] = list(self.commits)
            time.sleep(draws.random() * longest)
            turns.end_read(position)
            read[position].set()

    def commit(self, seat, positions, read, draws, longest):
        turns = self.turns[seat.rank]
        for position in positions:
            read[position].wait(patience())
            time.sleep(draws.random() * longest)
            turns.begin_commit(position)
            # What another would write meanwhile were lost.
            before = list(self.commits)
            time.sleep(draws.random() * longest)
            self.commits = [*before, (position, seat.part)]
            turns.end_commit(position)
            self.most_keys = max(self.most_keys, self.server.num_keys())


@pytest.mark.parametrize(("parts", "slots"), PLANS)
def test_memory_is_read_and_written_in_the_order_of_disttgl_whatever_the_delays(parts, slots):
    plan = ParallelPlan(parts, slots)
    group = Group(plan)
    for sweep, (seed, first) in enumerate(product(range(3), (0, 3))):
        group.commits = []
        records = group.sweep(13, first=first, name=str(sweep), seed=seed)
        assert_in_order(SweepSchedule(plan, 13), records)
        expected = [(position, part) for position in range(first, 13) for part in range(parts)]
        assert group.commits == expected, "lost, doubled or in another order"
        for position in range(first, 13):
            for part in range(parts):
                assert group.seen[position, part] == expected[: (position - first) * parts]


@pytest.mark.parametrize(("parts", "slots"), [(1, 2), (3, 1), (2, 2)])
def test_what_the_store_holds_does_not_grow_with_the_sweep(parts, slots):
    group = Group(ParallelPlan(parts, slots))
    begin = group.server.num_keys()
    group.sweep(5, longest=0)
    left = group.server.num_keys() - begin
    assert left <= 1
    group.most_keys = 0
    group.sweep(80, name="1", longest=0)
    assert group.server.num_keys() - begin <= left + 1
    assert group.most_keys - begin <= 2 * parts + 3


def test_reads_of_a_batch_need_not_wait_for_one_another():
    server = serve()
    one, other = (MemoryTurns(HOST, server.port, 2, part, patience()) for part in range(2))
    for turns in (other, one):
        turns.begin_read(0)
    for turns in (other, one):
        turns.end_read(0)


@pytest.mark.parametrize("kind", ["read", "commit"])
def test_a_turn_that_does_not_come_is_an_error_after_the_timeout(kind):
    server = serve()
    turns = MemoryTurns(HOST, server.port, 2, 0, 0.5)
    turns.start("0", 0)
    with pytest.raises(dist.DistStoreError, match="timeout"):
        turns.begin_read(1) if kind == "read" else turns.begin_commit(0)
    assert turns.log is None


@pytest.mark.parametrize("kind", ["read", "commit"])
def test_who_waits_is_woken_when_its_process_gives_up(kind):
    server = serve()
    turns = MemoryTurns(HOST, server.port, 2, 0, patience(), log := [])
    turns.start("0", 0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(turns.begin_read, 1) if kind == "read" else pool.submit(turns.begin_commit, 0)
        while not turns._awaited:
            time.sleep(0.001)
        assert not waiting.done()
        turns.cancel()
        with pytest.raises(TurnsCancelledError):
            waiting.result(patience())
    assert turns.cancelled
    with pytest.raises(TurnsCancelledError):
        turns.begin_read(5)
    assert log == []


def test_both_threads_of_a_process_are_woken_and_it_can_begin_anew():
    server = serve()
    turns = MemoryTurns(HOST, server.port, 2, 0, patience(), log := [])
    turns.start("0", 0)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(turns.begin_read, 1), pool.submit(turns.begin_commit, 0)]
        while len(turns._awaited) < 2:
            time.sleep(0.001)
        turns.cancel()
        for each in waiting:
            with pytest.raises(TurnsCancelledError):
                each.result(patience())
    turns.start("1", 4)
    turns.begin_read(4)
    turns.end_read(4)
    assert [(record.kind, record.position, record.part) for record in log] == [("read", 4, 0)]


def test_the_check_of_the_order_sees_what_is_wrong():
    schedule = SweepSchedule(ParallelPlan(2), 2)
    good = [AccessRecord(*access, 10 * n, 10 * n + 5) for n, access in enumerate(schedule.order())]
    assert_in_order(schedule, good)

    def at(n, begin, finish):
        access = good[n]
        return [*good[:n], AccessRecord(access.kind, access.position, access.part, begin, finish), *good[n + 1 :]]

    lost, doubled = good[:-1], [*good, good[3]]
    early_read, overlapping_commits, commit_while_it_is_read = at(4, 34, 45), at(3, 24, 35), at(1, 10, 21)
    for wrong in (lost, doubled, early_read, overlapping_commits, commit_while_it_is_read, at(2, 990, 995)):
        with pytest.raises(AssertionError):
            assert_in_order(schedule, wrong)
    assert_in_order(schedule, at(1, 1, 6))
