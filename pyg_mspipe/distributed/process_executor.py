"""The executor of one trainer of a plan, in a process that torchrun has started."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from pyg_mspipe.distributed.executor import Executor, Job, Pipelines, TrainStep
from pyg_mspipe.distributed.gradients import GradientSums
from pyg_mspipe.distributed.host_processes import when_one_ends
from pyg_mspipe.distributed.memory_group import MemoryGroup
from pyg_mspipe.distributed.memory_turns import AccessRecord
from pyg_mspipe.distributed.plan import ParallelPlan
from pyg_mspipe.distributed.random_state import RandomState, own_random_state, random_state
from pyg_mspipe.distributed.sweep import SweepSteps
from pyg_mspipe.distributed.visits import Visits
from pyg_mspipe.distributed.world import World
from pyg_mspipe.distributed.world_team import WorldTeam
from pyg_mspipe.memory import Commit
from pyg_mspipe.pipeline import InFlight, PipelineError
from pyg_mspipe.tasks import Metrics
from pyg_mspipe.tasks.evaluation import score_batches

Flights = Generator[InFlight[Visits], None, None]


class ProcessExecutor(Executor):
    """Does one trainer's part of each step; each process of the plan has its own executor.

    The first process writes the run's folder and shows the progress; each process saves its own part beside a
    checkpoint.

    Args:
        world: All processes of the run.
        turns: A list that gets a record of each access to shared memory, if given.
    """

    stops_at_once = False

    def __init__(self, world: World, turns: list[AccessRecord] | None = None) -> None:
        self.world = world
        self.team = WorldTeam(world)
        self._turns = turns

    def memory_device(self, plan: ParallelPlan) -> str | None:
        """Returns the device of node memory: the CPU, if processes share it."""
        return "cpu" if plan.group_size > 1 else None

    def prepare(self, job: Job) -> None:
        """Gets ready to train."""
        self._job = job
        self._model = job.objective.model
        self._state = self._model.state
        self.steps = SweepSteps(job)
        self._pipelines = Pipelines(job)
        self._random = self.steps.first_random_state(self.world.rank)
        self._visits: Visits | None = None
        self._group: MemoryGroup | None = None
        if job.plan.group_size > 1:
            self._group = MemoryGroup(job.plan, self.world.seat, self._state, timeout=job.timeout, log=self._turns)

    def counts(self) -> list[int]:
        """Returns how many items the loss of each step of a sweep is a mean over."""
        return self.steps.counts()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Has torch draw from this trainer's random state and add up gradients over all processes.

        Torch's wrapper is deleted before the connection is closed. As the connection's last holder it would wait for
        a thread of the connection while it holds Python's lock, which that thread may need.
        """
        objective = self._job.objective
        # Each process keeps its node memory; static vectors are the same in all processes.
        names = [name for name, _ in objective.named_buffers()]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(objective, names)
        # Only a learned mitigation may get no gradient: in a step where nothing is stale.
        unused = self._state.mitigates
        self._summed = DistributedDataParallel(objective, find_unused_parameters=unused, gradient_as_bucket_view=True)
        self._gradients = GradientSums()
        self._summed.register_comm_hook(None, self._gradients.hook)
        try:
            with own_random_state(self._job.device, self._random):
                yield
        finally:
            del self._summed

    @contextmanager
    def sweep(self, epoch: int, first: int, step: int) -> Iterator[TrainStep]:
        """Gives the function to call for each remaining step of a sweep, in order."""
        seat, schedule, optimizer = self.world.seat, self.steps.schedule, self._job.optimizer
        if first == 0 and (self._group is None or self._group.leads):
            self.steps.begin(self._state, seat.group)
        if self._group is not None:
            self._group.turns.start(f"{step}", first)
            self._group.barrier()
        self._visits = self.steps.restored(seat, epoch, self._state.span.begin, first)
        coming: Visits | None = None

        def get(step: int) -> Visits | None:
            turn = schedule.assignment(seat, step) if step < schedule.num_steps else None
            if turn is None or turn.visit:
                return self._visits
            flight = next(flights)
            assert flight.batch is not None
            return flight.batch if flight.rows is None else flight.batch.with_rows(flight.rows)

        def hand_over(commit: Commit) -> None:
            assert self._state.pipeline is not None
            self._state.pipeline.commit(commit)

        def train(step: int) -> Tensor:
            nonlocal coming
            self._visits = get(step) if step == first else coming
            learns = self.steps.learns(step)
            if learns:
                self._gradients.expect()
                optimizer.zero_grad()
            loss = self.steps.train(self._summed, self._model, hand_over, self._visits, seat, step)
            # The next batch needs no weights, so it is prepared while the gradients travel.
            coming = get(step + 1)
            if learns:
                self._gradients.wait()
                optimizer.step()
            return loss

        make_flights = self._own_flights if self._group is None else self._shared_flights
        with closing(make_flights(epoch, first)) as flights:
            yield train
            # When the iterator ends, all commits are applied.
            assert next(flights, None) is None
        self._visits = None

    def _own_flights(self, epoch: int, first: int) -> Flights:
        """Yields the batches of a trainer with a memory of its own: to the end of the stream, then from its start."""
        schedule, group = self.steps.schedule, self.world.seat.group
        wrap = (schedule.num_batches - schedule.first_batch(group)) % schedule.num_batches
        for span in (range(wrap), range(wrap, schedule.num_batches)):
            if first >= span.stop:
                continue
            begin = max(first - span.start, 0)
            if begin == 0 and span.start and schedule.batch_at(group, span.start) == 0:
                self._state.clear(self.steps.batches.events.start)
            source = self.steps.source(self.world.seat, epoch, self._state.span.begin, span)
            step_of = source.positions.__getitem__
            engine = self._pipelines.engine(source, epoch=epoch, first=begin, step_of=step_of)
            with closing(iter(engine)) as flights:
                yield from flights
            self._pipelines.done(engine)

    def _shared_flights(self, epoch: int, first: int) -> Flights:
        """Yields the batches of a trainer that takes turns with others at a memory."""
        group = self._group
        source = self.steps.source(self.world.seat, epoch, self._state.span.begin)
        assert group is not None
        engine = self._pipelines.engine(
            source,
            epoch=epoch,
            first=sum(position < first for position in source.positions),
            step_of=source.positions.__getitem__,
            staleness="sequential" if self._job.staleness == "sequential" else "exact",
            state=group.pipelined_state(source),
        )
        flights = iter(engine)
        try:
            # If a process of the group dies, the others stop waiting for its turns.
            with when_one_ends(self.world.other_pids(self._job.plan.ranks(self.world.seat.group)), group.turns.cancel):
                # No `yield from`: when this generator is closed, the turns are cancelled before the engine is closed.
                for flight in flights:  # noqa: UP028
                    yield flight
                group.barrier()
        except BaseException:
            # Other processes may never take their turns, so this process stops waiting for its own.
            group.turns.cancel()
            raise
        finally:
            self._pipelines.done(engine)
            try:
                flights.close()
            except PipelineError:
                if not group.turns.cancelled:
                    raise

    def validate(self, on_batch: Callable[[int], None]) -> Metrics:
        """Returns the metrics on the validation events, computed by the trainers of the first memory group."""
        job, seat = self._job, self.world.seat
        scored: dict[int, Tensor] = {}
        with self.team.together():
            if seat.group == 0:
                own = job.objective.with_model(self._model.with_state(self._state.copy()))
                shard = range(seat.rank, len(job.val), job.plan.group_size)
                scored = score_batches(own, job.val, shard, on_batch, overlap=job.overlap, prefetch=job.prefetch)
        gathered: list[dict[int, Tensor]] | None = [{} for _ in range(job.plan.world)] if self.team.leads else None
        dist.gather_object(scored, gathered)

        def metrics() -> Metrics:
            assert gathered is not None
            scores = {index: each for part in gathered for index, each in part.items()}
            return job.objective.task.metrics([scores[index] for index in sorted(scores)], job.val.events, job.groups)

        return self.team.first(metrics)

    # The parts of an executor's state that checkpoints hold.

    def random_state(self) -> RandomState:
        """Returns the random state of this process."""
        return random_state(self._job.device)

    def memory_state(self) -> dict[str, Tensor]:
        """Returns the first memory's state in the first process, once all commits are applied: tensors by name."""
        self._state.drain()
        # No process commits again before all pending commits are applied everywhere.
        dist.barrier()
        return self._state.save() if self.team.leads else {}

    def load_memory_state(self, state: dict[str, Tensor]) -> None:
        """Takes over the state of the first memory."""
        # Only one process of a group loads shared memory: a late one would overwrite rows that are newer by then.
        if self.world.seat.group == 0 and (self._group is None or self._group.leads):
            self._state.load(state)

    def load(self, random: RandomState, parts: dict[int, dict[str, Any]]) -> None:
        """Takes over a checkpoint's random state and the parts beside it; further memories begin empty without one."""
        self._visits = None
        self.steps.forget_held()
        if self.world.rank == 0:
            self._random = dict(random)
        if self.world.seat.group > 0 and (self._group is None or self._group.leads):
            self._state.clear(0)
        if self.world.rank in parts:
            content = parts[self.world.rank]
            self._random = {name: content[name] for name in random}
            self.steps.load_part(self.world.seat, content, self._state)

    @property
    def ranks(self) -> list[int]:
        """The trainers whose parts this process saves beside a checkpoint: its own, if there are several."""
        return [self.world.rank] if self._job.plan.world > 1 else []

    def parts(self, batch: int) -> dict[int, dict[str, Any]]:
        """Returns the trainers' parts to save beside a checkpoint, by rank: plain values and tensors."""
        part = self.steps.part(self.world.seat, batch, self._visits, self._state)
        return {rank: part | self.random_state() for rank in self.ranks}
