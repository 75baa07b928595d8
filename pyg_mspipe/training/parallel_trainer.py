"""Training by a plan of many trainers: what is the same in many processes and in one that emulates them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from pyg_mspipe.distributed import ParallelPlan, Seat, SweepSchedule
from pyg_mspipe.distributed.random_state import random_state, set_random_state
from pyg_mspipe.distributed.visits import VisitBatches, Visits
from pyg_mspipe.memory import MemoryRows, TGNMemory
from pyg_mspipe.models import TemporalModel
from pyg_mspipe.tasks import train_step
from pyg_mspipe.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from pyg_mspipe.training.trainer import Trainer

_LR_POWER = {"linear": 1.0, "sqrt": 0.5, "none": 0.0}


class ParallelTrainer(Trainer, ABC):
    """Trains by ``config.parallel``, sweep by sweep, validating after each.

    A step's loss is the mean over all events that are trained in it, whichever trainer has them. The learning rate
    grows with the number of trainers as ``config.lr_scaling`` says. Each trainer but the first has random numbers of
    its own.
    """

    takes_plans = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.plan = ParallelPlan.parse(self.config.parallel)
        self.epochs_at_once = self.plan.epochs_per_sweep
        self._batches = self.batches("train")
        self._batches.batch_size *= self.plan.minibatch
        self.schedule = SweepSchedule(self.plan, len(self._batches))
        # How many events each rank trains in each step of a sweep.
        self._events = [
            [len(self._part(seat, step)) for seat in self.plan.seats()] for step in range(self.schedule.num_steps)
        ]
        self._states = {seat.rank: self._first_random_state(seat.rank) for seat in self.seats}
        self._held: dict[int, list[MemoryRows]] = {}
        self._set_lr()

    # What the two kinds differ in.

    @property
    @abstractmethod
    def seats(self) -> list[Seat]:
        """The trainers that this process is."""

    @abstractmethod
    def _group_memory(self, group: int) -> TGNMemory:
        """Returns the memory of a group of which this process is the first."""

    # What they have in common.

    def load(self, checkpoint: dict[str, Any]) -> None:
        """Takes over a checkpoint, of this plan or another.

        With another plan the sweep that was going on begins again, and memory groups other than the first begin with
        empty memory. With the same it goes on bit for bit.

        Args:
            checkpoint: From :func:`load_checkpoint`.

        Raises:
            CheckpointError: If it is of another stream.
        """
        super().load(checkpoint)
        self._set_lr()
        self._held = {}
        self._states |= {seat.rank: self._random for seat in self.seats if seat.rank == 0}
        if self._has_batches_of(checkpoint) and self.plan.world > 1 and self._run_folder is not None:
            for seat in self.seats:
                path = self._run_folder / _rank_file(self.progress.step, seat.rank)
                if not path.exists():
                    raise CheckpointError(
                        f"{path} is missing beside the checkpoint; put it there, or resume with another plan, which "
                        f"begins the sweep again without it"
                    )
                self._load_rank(seat, load_checkpoint(path))
        self._random = self._states[self.seats[0].rank]

    def _load_rank(self, seat: Seat, content: dict[str, Any]) -> None:
        self._states[seat.rank] = {name: content[name] for name in ("rng", "rng_cuda")}
        self._held[seat.rank] = [MemoryRows.unpacked(fields) for fields in content["held"]]
        if content["memory"]:
            self._group_memory(seat.group).load_memory_state(content["memory"])

    @property
    def _run_folder(self) -> Path | None:
        """Where all processes write what belongs to the run."""
        return self.folder

    def _counts(self) -> list[int]:
        return [sum(events) for events in self._events]

    def _part(self, seat: Seat, step: int) -> range:
        """Returns the events that a trainer trains in a step."""
        turn = self.schedule.turn(seat, step)
        return range(0) if turn is None else self.schedule.part(self._batches.events_of(turn.batch), seat)

    def _source(self, seat: Seat, positions: range | None = None) -> VisitBatches:
        return VisitBatches(self._batches, self.schedule, seat, self.progress.epoch, positions)

    def _loss(self, objective: Module, model: TemporalModel, visits: Visits | None, seat: Seat, step: int) -> Tensor:
        """Returns a trainer's share of the loss of a step, after its gradients were computed and its commit made.

        Args:
            objective: Returns the loss of a batch, and zero for none.
            model: With the memory of the trainer's group, in a pipeline.
            visits: What the trainer holds.
            seat: The trainer.
            step: Of the sweep.
        """
        memory = model.memory
        assert memory is not None
        turn = self.schedule.turn(seat, step)
        events = self._events[step]
        batch = None if turn is None or visits is None or not visits.batches else visits.batches[turn.visit]
        if batch is None:
            # First, as others wait for this commit before their backward pass, which this one's waits for.
            if turn is not None and turn.visit == 0:
                memory.commit_nothing()
            objective(None).backward()
            return torch.zeros((), device=self.device)
        assert turn is not None
        assert visits is not None
        with memory.reading(visits.rows[turn.visit]) if visits.rows else nullcontext():
            commit = model.commit if turn.visit == 0 else None
            return train_step(objective, batch, commit=commit, weight=events[seat.rank] / sum(events))

    def _restored(self, seat: Seat, step: int) -> Visits | None:
        """Returns the batch that a trainer held when the checkpoint was written, if it is to be trained on."""
        turn = self.schedule.turn(seat, step)
        if turn is None or turn.visit == 0:
            return None
        source = self._source(seat)
        index = source.positions.index(turn.position)
        visits = source.gather(source.draw(source.events_of(index), 0, index))
        visits.rows = [rows.to(self.device) for rows in self._held.pop(seat.rank)]
        return visits

    def _save_rank(self, seat: Seat, visits: Visits | None) -> None:
        """Writes what a checkpoint needs to know of one trainer."""
        if self._run_folder is None or self.plan.world == 1:
            return
        turn = self.schedule.turn(seat, self.progress.batch) if visits is not None else None
        held = visits.rows if visits is not None and turn is not None and turn.visit else []
        leads = seat.group > 0 and seat.rank == self.plan.ranks(seat.group)[0]
        memory = self._group_memory(seat.group).memory_state() if leads else {}
        self._run_folder.mkdir(parents=True, exist_ok=True)  # of another host, perhaps
        content = {"held": [rows.packed() for rows in held], "memory": memory, **self._states[seat.rank]}
        save_checkpoint(self._run_folder / _rank_file(self.progress.step, seat.rank), content)

    def _remove_older(self) -> None:
        """Removes what earlier checkpoints, of this plan or another, needed to know of single trainers."""
        if self._run_folder is None:
            return
        ranks = range(self.plan.world if self.plan.world > 1 else 0)
        keep = {_rank_file(self.progress.step, rank) for rank in ranks}
        for path in self._run_folder.glob(_rank_file("*", "*")):
            if path.name not in keep:
                path.unlink(missing_ok=True)

    def _set_lr(self) -> None:
        lr = self.config.lr * self.plan.world ** _LR_POWER[self.config.lr_scaling]
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def _first_random_state(self, rank: int) -> dict[str, Tensor | None]:
        """Returns the random state that a trainer begins with: that of a single run for the first."""
        if rank == 0:
            return self._random
        seed = np.random.SeedSequence(self.config.seed, spawn_key=(rank,)).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(seed >> np.uint64(1)))
        state = random_state(self.device)
        set_random_state(self.device, self._random)
        return state


def _rank_file(step: int | str, rank: int | str) -> str:
    return f"last.{step}.rank{rank}.pt"
