"""One of the trainers of a plan, in a process that torchrun has started."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from pyg_mspipe.distributed import ParallelPlan, Seat
from pyg_mspipe.distributed.gradients import GradientSums, add_in_order
from pyg_mspipe.distributed.memory_group import MemoryGroup
from pyg_mspipe.distributed.neighbours import when_one_ends
from pyg_mspipe.distributed.random_state import random_state
from pyg_mspipe.distributed.turns import AccessRecord
from pyg_mspipe.distributed.visits import Visits
from pyg_mspipe.distributed.world import World
from pyg_mspipe.memory import TGNMemory
from pyg_mspipe.memory.messages import max_pending_events
from pyg_mspipe.pipeline import InFlight, PipelineError
from pyg_mspipe.pipeline.timeline import TraceWriter
from pyg_mspipe.tasks import LinkMetrics, Objective
from pyg_mspipe.tasks.evaluation import score_batches
from pyg_mspipe.training.checkpoint import CheckpointError
from pyg_mspipe.training.config import ConfigError
from pyg_mspipe.training.interrupt import Interrupted, StopRequest
from pyg_mspipe.training.metrics_log import MetricsLog
from pyg_mspipe.training.parallel_trainer import ParallelTrainer
from pyg_mspipe.training.progress import TrainingProgress
from pyg_mspipe.training.run_folder import own_folder
from pyg_mspipe.training.run_progress import Progress
from pyg_mspipe.training.trainer import TrainStep

Flights = Generator[InFlight[Visits], None, None]


class DistributedTrainer(ParallelTrainer):
    """Trains its part of ``config.parallel``; all processes of the plan make one each.

    The first process writes the run's folder and shows the progress; each process adds to a checkpoint what only it
    knows.

    Args:
        *args: As for :class:`Trainer`.
        world: All processes.
        turns: Gets a record of each access to a memory that is shared, if given.
        **options: As for :class:`Trainer`.

    Raises:
        DisagreementError: If the processes were given different streams or settings.
    """

    stops_at_once = False

    def __init__(self, *args: Any, world: World, turns: list[AccessRecord] | None = None, **options: Any) -> None:
        self.world = world
        if world.rank:
            options["console"] = Console(quiet=True)
        super().__init__(*args, **options)
        settings = {name: value for name, value in vars(self.config).items() if name != "device"}
        world.agree({"stream": self.fingerprint, "torch": torch.__version__} | settings)
        if world.rank and self._timeline:
            path = Path(self._timeline)
            self._timeline = str(path.with_name(f"{path.stem}.rank{world.rank}{path.suffix}"))
        self._folder_of_all, self.folder = self.folder, None if world.rank else self.folder
        self._group: MemoryGroup | None = None
        if self.plan.group_size > 1:
            train = slice(self.split.train.start, self.split.train.stop)
            whole = self._batches.batch_size
            self._group = MemoryGroup(
                self.plan,
                world.seat,
                self.model.memory,
                max_pending=max_pending_events(self.data.src[train], self.data.dst[train], whole),
                batch_size=whole,
                timeout=self.config.timeout,
                log=turns,
            )
        self._visits: Visits | None = None
        self._random = self._states[world.rank]

    @property
    def seats(self) -> list[Seat]:
        """The one of this process."""
        return [self.world.seat]

    @property
    def seat(self) -> Seat:
        """The one of this process."""
        return self.world.seat

    def fit(self, *, replace: bool = False) -> Progress:
        """Trains with all other processes until the last epoch or until early stopping, and returns how it went.

        Args:
            replace: Whether a run that begins may remove one that is in the folder.

        Raises:
            ConfigError: If the folder has a run already, or another process is training in it.
            Interrupted: After Ctrl-C or SIGTERM of any process, once the state is saved.
            DivergedError: If the loss or a score is no longer a finite number.
            TrainerLostError: If another process is gone.
        """
        with self.world.watched(), ExitStack() as stack:
            error: Exception | None = None
            try:
                if self.folder is not None:
                    stack.enter_context(own_folder(self.folder, fresh=self.progress.step == 0, replace=replace))
            except (ConfigError, OSError) as problem:
                error = problem
            self.world.raise_together(error)
            stack.enter_context(self._in_parallel())
            return self._fit()

    def _pretrain_static(self) -> None:
        """Trains or finds the static node vectors in the first process, and gives them to the others."""
        error: BaseException | None = None
        if self.world.leads:
            try:
                super()._pretrain_static()
            except (Exception, KeyboardInterrupt) as problem:
                error = problem
        self.world.raise_together(error)
        self._share_static()

    def _load_memory(self, state: dict[str, Tensor]) -> None:
        # Where it is shared, once: a late process would write over what the group's first has loaded by then.
        if self._group is None or self._group.leads:
            super()._load_memory(state)

    def _load_static(self, digest: str) -> None:
        error: Exception | None = None
        if self.world.leads:
            try:
                super()._load_static(digest)
            except (CheckpointError, OSError) as problem:
                error = problem
        self.world.raise_together(error)
        self._share_static()

    def _share_static(self) -> None:
        memory = self.model.static_memory
        if memory is not None:
            dist.broadcast(memory.table, src=0)
            self._static = self.world.first(self._static)

    def _timeline_title(self) -> str:
        return f"{super()._timeline_title()}, rank {self.world.rank} of plan {self.plan}"

    def _memory_device(self) -> str | None:
        return "cpu" if ParallelPlan.parse(self.config.parallel).group_size > 1 else None

    @property
    def _run_folder(self) -> Path | None:
        return self._folder_of_all

    def _group_memory(self, group: int) -> TGNMemory:
        return self.model.memory

    @contextmanager
    def _in_parallel(self) -> Iterator[None]:
        """Has gradients added up over all processes.

        Torch's wrapper ends before the connection does: were it the last to hold that, it would wait for a thread of
        the connection without releasing Python's lock, which the thread may need.
        """
        scorer = self.objective
        # Node memory stays where it is; static vectors are the same everywhere.
        names = [name for name, _ in scorer.named_buffers()]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(scorer, names)
        # A learned mitigation has nothing to do where nothing is stale; all else has a gradient in every step.
        unused = self.model.memory.mitigation is not None
        self._scorer = DistributedDataParallel(scorer, find_unused_parameters=unused, gradient_as_bucket_view=True)
        self._gradients = GradientSums()
        self._scorer.register_comm_hook(None, self._gradients.hook)
        try:
            yield
        finally:
            del self._scorer

    @contextmanager
    def _pass(self, view: TrainingProgress, log: MetricsLog) -> Iterator[TrainStep]:
        first, memory = self.progress.batch, self.model.memory
        self._visits = self._restored(self.seat, first)
        if self._group is not None:
            if first == 0 and self._group.leads and self.schedule.batch_at(self.seat.group, 0) == 0:
                memory.reset_state()
            self._group.turns.start(f"{self.progress.step}", first)
            self._group.barrier()
        coming: Visits | None = None
        make_flights = self._own_flights if self._group is None else self._shared_flights

        def get(step: int) -> Visits | None:
            turn = self.schedule.turn(self.seat, step) if step < self.schedule.num_steps else None
            return self._visits if turn is None or turn.visit else next(flights).batch

        def train(step: int) -> Tensor:
            nonlocal coming
            self._visits = get(step) if step == first else coming
            self._gradients.expect()
            self.optimizer.zero_grad()
            loss = self._loss(self._scorer, self.model, self._visits, self.seat, step)
            # The next batch needs no weights, and is made ready while the gradients are on their way.
            coming = get(step + 1)
            self._gradients.wait()
            self.optimizer.step()
            return loss

        with self._trace() as trace, closing(make_flights(view, log, trace)) as flights:
            yield train
            # All commits are applied once there are no more batches.
            assert next(flights, None) is None
        self._visits = None

    def _own_flights(self, view: TrainingProgress, log: MetricsLog, trace: TraceWriter | None) -> Flights:
        """Yields the batches of a trainer with a memory of its own: to the end of the stream, then from its start."""
        schedule, group = self.schedule, self.seat.group
        wrap = (schedule.num_batches - schedule.first_batch(group)) % schedule.num_batches
        spans = [range(wrap), range(wrap, schedule.num_batches)]
        for span in spans:
            if self.progress.batch >= span.stop:
                continue
            first = max(self.progress.batch - span.start, 0)
            if first == 0 and schedule.batch_at(group, span.start) == 0:
                self.model.memory.reset_state()
            source = self._source(self.seat, span)
            engine = self._engine(source, first, view, log, trace, step_of=source.positions.__getitem__)
            trace = None  # which shows one pass of an engine
            with closing(iter(engine)) as flights:
                yield from flights
            self._overlap = engine.overlap

    def _shared_flights(self, view: TrainingProgress, log: MetricsLog, trace: TraceWriter | None) -> Flights:
        """Yields the batches of a trainer that takes turns with others at a memory."""
        group, source = self._group, self._source(self.seat)
        assert group is not None
        first = sum(position < self.progress.batch for position in source.positions)
        engine = self._engine(
            source,
            first,
            view,
            log,
            trace,
            step_of=source.positions.__getitem__,
            staleness="sequential" if self.config.staleness == "sequential" else "exact",
            stages=group.stages(source),
            at_once=True,
        )
        flights = iter(engine)
        try:
            # What a process was to do that is gone is waited for by nobody.
            with when_one_ends(self.world.neighbours(self.plan.ranks(self.seat.group)), group.turns.cancel):
                # Not delegated, so that an end from outside comes here before it comes to the engine.
                for flight in flights:  # noqa: UP028
                    yield flight
                group.barrier()
        except BaseException:
            # Others may never take their turns, so those of this process are given up.
            group.turns.cancel()
            raise
        finally:
            self._overlap = engine.overlap
            try:
                flights.close()
            except PipelineError:
                if not group.turns.cancelled:
                    raise

    def _of_all(self, losses: Tensor, stop: bool) -> tuple[Tensor, bool]:
        mine = torch.cat([losses.cpu(), torch.tensor([float(stop)])])
        parts = [torch.empty_like(mine) for _ in range(self.plan.world)]
        dist.all_gather(parts, mine)
        total = add_in_order(parts)
        return total[:-1], bool(total[-1])

    def _memory_state(self) -> dict[str, Tensor]:
        memory = self.model.memory
        memory.drain()
        # Nobody goes on to commit before all have saved.
        dist.barrier()
        return memory.memory_state() if self.world.leads else {}

    def _save(self, name: str, memory: dict[str, Tensor], log: MetricsLog) -> None:
        self._states[self.seat.rank] = random_state(self.device)
        error: Exception | None = None
        try:
            self._save_rank(self.seat, self._visits)
        except OSError as problem:
            error = problem
        self.world.raise_together(error)
        try:
            super()._save(name, memory, log)
        except OSError as problem:
            error = problem
        self.world.raise_together(error)
        if self.world.leads:
            self._remove_older()

    def _validate(self, view: TrainingProgress, request: StopRequest, memory: dict[str, Tensor]) -> LinkMetrics:
        """Returns the validation metrics, computed by the trainers of the first memory group."""
        _, stop = self._of_all(torch.zeros(1), request.made)
        if stop:
            raise Interrupted
        metrics: list[LinkMetrics | None] = [None]
        error: Exception | None = None
        scored: dict[int, Tensor] = {}
        batches = self.batches("val", self.config.eval_negatives)
        shard = range(self.seat.rank, len(batches), self.plan.group_size)
        if self.seat.group == 0:
            objective = Objective(self.model.with_own_memory(), self.task, bf16=self.objective.bf16)
            try:
                scored = score_batches(objective, batches, shard, view.advance)
            except ArithmeticError as problem:
                error = problem
        self.world.raise_together(error)
        gathered: list[dict[int, Tensor]] | None = [{} for _ in range(self.plan.world)] if self.seat.rank == 0 else None
        dist.gather_object(scored, gathered)
        if gathered is not None:
            logits = {index: each for part in gathered for index, each in part.items()}
            metrics[0] = self.task.metrics(
                [logits[index] for index in range(len(batches))], batches.events, self.unseen
            )
        dist.broadcast_object_list(metrics, src=0)
        assert metrics[0] is not None
        return metrics[0]
