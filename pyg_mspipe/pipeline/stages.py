"""The stages of a batch's way to training. Each declares what it requires of the batch in flight and what it adds."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch

from pyg_mspipe.memory import NodeState
from pyg_mspipe.pipeline.record import STAGES, BatchRecord, StageName
from pyg_mspipe.pipeline.streams import settle

B = TypeVar("B")


class BatchSource(Protocol[B]):
    """Makes batches of events. All it does is a function of its arguments, so it may be called by any thread."""

    def __len__(self) -> int:
        """Returns the number of batches."""
        ...

    def events_of(self, index: int) -> range:
        """Returns the event ids of a batch."""
        ...

    def draw(self, events: range, epoch: int, index: int) -> B:
        """Returns the batch with its negatives and neighbours, features still to be gathered."""
        ...

    def gather(self, batch: B) -> B:
        """Returns the batch with the features of what was drawn."""
        ...

    def as_of(self, batch: B, index: int, version: int) -> B:
        """Returns gathered batch ``index`` as it is planned where ``version`` commits, fewer than ``index``, are in."""
        ...


class StateVersion:
    """The version of the memory state, how many batches of the pass are committed, and who may touch the state.

    Args:
        version: The one to begin with.
        device: Of the stages' streams.
    """

    def __init__(self, version: int, device: torch.device) -> None:
        self._version = version
        self._generation = 0
        self._device = device
        self._lock = threading.Lock()

    @property
    def version(self) -> int:
        """How many batches of the pass are committed."""
        return self._version

    @contextmanager
    def reading(self, flight: InFlight[B]) -> Iterator[int]:
        """Gives the version that a batch's rows are read at, which stays until the context is left."""
        with self._held():
            flight.record.fetched, flight.generation = self._version, self._generation
            yield self._version

    @contextmanager
    def committing(self, flight: InFlight[B]) -> Iterator[None]:
        """Lets a batch's commit be applied, which counts once the context is left without an error."""
        with self._held():
            yield
            self._version = flight.index + 1

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Lets the state be changed by anything but a commit; rows that were read before mean nothing from then on."""
        with self._held():
            self._generation += 1
            yield

    def is_current(self, flight: InFlight[B]) -> bool:
        """Returns whether a batch's rows are of the state as it is, but for commits."""
        return flight.generation == self._generation

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Keeps others from the state until what is done inside is over, on a GPU too."""
        with self._lock:
            yield
            settle(self._device)


@dataclass
class InFlight(Generic[B]):
    """A batch on its way, and all that belongs to it.

    Attributes:
        record: When each stage worked on it, and how stale it is.
        state: The version of node memory, shared by all batches of a pass.
        epoch: Which pass over the stream it belongs to.
        events: Its event ids.
        drawn: With negatives and neighbours.
        batch: With features too; what is trained.
        rows: What was read from node memory.
        commit: What is to be written to it.
        generation: Of the state that the rows were read from.
    """

    record: BatchRecord
    state: StateVersion
    epoch: int
    events: range
    drawn: B | None = None
    batch: B | None = None
    rows: Any = None
    commit: Any = None
    generation: int = 0

    @property
    def index(self) -> int:
        """The batch's number within the pass."""
        return self.record.index


GIVEN = frozenset({"record", "state", "epoch", "events"})
"""What a batch has before the first stage."""


class Stage(Protocol[B]):
    """One step of a batch's way.

    Attributes:
        name: As it stands in errors and timelines.
        requires: Fields of :class:`InFlight` that must be there before it.
        adds: Fields that are there after it.
    """

    name: ClassVar[StageName]
    requires: ClassVar[frozenset[str]]
    adds: ClassVar[frozenset[str]]

    def __call__(self, flight: InFlight[B]) -> None:
        """Does the stage's work on one batch."""
        ...


class Sample(Generic[B]):
    """Stage 1: negatives, temporal neighbours and unique nodes."""

    name: ClassVar[StageName] = "sample"
    requires: ClassVar[frozenset[str]] = frozenset({"epoch", "events"})
    adds: ClassVar[frozenset[str]] = frozenset({"drawn"})

    def __init__(self, source: BatchSource[B]) -> None:
        self.source = source

    def __call__(self, flight: InFlight[B]) -> None:
        """Draws the batch."""
        flight.drawn = self.source.draw(flight.events, flight.epoch, flight.index)


class Gather(Generic[B]):
    """Stage 2: the features of what was sampled."""

    name: ClassVar[StageName] = "gather"
    requires: ClassVar[frozenset[str]] = frozenset({"drawn"})
    adds: ClassVar[frozenset[str]] = frozenset({"batch"})

    def __init__(self, source: BatchSource[B]) -> None:
        self.source = source

    def __call__(self, flight: InFlight[B]) -> None:
        """Gathers the batch's features."""
        assert flight.drawn is not None
        flight.batch, flight.drawn = self.source.gather(flight.drawn), None


class Fetch(Generic[B]):
    """Stage 3: what training reads of node memory. Its numbers depend on when it runs."""

    name: ClassVar[StageName] = "fetch"
    requires: ClassVar[frozenset[str]] = frozenset({"batch"})
    adds: ClassVar[frozenset[str]] = frozenset({"rows"})

    def __init__(self, source: BatchSource[B], state: NodeState, *, catches_up: bool) -> None:
        self.source = source
        self.state = state
        self.catches_up = catches_up

    def __call__(self, flight: InFlight[B]) -> None:
        """Reads the rows, for the version that the state has or, where they catch up, for the batch's own."""
        assert flight.batch is not None
        with flight.state.reading(flight) as version:
            if version < flight.index and not self.catches_up:
                flight.batch = self.source.as_of(flight.batch, flight.index, version)
            # What repairs stale rows is read where they can be stale.
            flight.rows = self.state.fetch(flight.batch, mitigated=self.state.mitigates and flight.record.bound > 0)


class Train(Generic[B]):
    """Stage 4: whoever iterates. Its work is done between two batches, so that here only its contract stands."""

    name: ClassVar[StageName] = "train"
    requires: ClassVar[frozenset[str]] = frozenset({"batch", "rows"})
    adds: ClassVar[frozenset[str]] = frozenset({"commit"})

    def __call__(self, flight: InFlight[B]) -> None:
        """Does nothing."""


class Update(Generic[B]):
    """Stage 5: writes the batch's commit to node memory."""

    name: ClassVar[StageName] = "update"
    requires: ClassVar[frozenset[str]] = frozenset({"commit"})
    adds: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, state: NodeState) -> None:
        self.state = state

    def __call__(self, flight: InFlight[B]) -> None:
        """Applies the commit, if there is one: a batch may be looked at without an update."""
        with flight.state.committing(flight):
            if flight.commit is not None:
                self.state.apply(flight.commit)


def default_stages(source: BatchSource[B], state: NodeState, *, catches_up: bool = True) -> list[Stage[B]]:
    """Returns the five stages in their order.

    Args:
        source: Of the batches.
        state: That is fetched and updated.
        catches_up: Whether commits that a fetch has missed are made up for before training.
    """
    return [Sample(source), Gather(source), Fetch(source, state, catches_up=catches_up), Train(), Update(state)]


def check_order(stages: Sequence[Stage[B]]) -> None:
    """Raises where a stage is missing, stands twice, or stands before what it needs.

    Args:
        stages: In the order that a batch goes through them.

    Raises:
        ValueError: Naming the stage, what it requires, and which stage adds that.
    """
    for name in STAGES:
        count = sum(stage.name == name for stage in stages)
        if count != 1:
            raise ValueError(f"there are {count} stages {name}; give one of each: {', '.join(STAGES)}")
    there = set(GIVEN)
    for stage in stages:
        for field in sorted(stage.requires - there):
            adders = [other.name for other in stages if field in other.adds]
            mend = f"put {stage.name} after {adders[0]}" if adders else f"add a stage that adds {field}"
            raise ValueError(f"stage {stage.name} requires {field}, which no stage before it adds; {mend}")
        there |= stage.adds
