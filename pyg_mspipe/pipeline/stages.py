"""What the stages do to a batch in flight, but for training, which whoever iterates does between two batches."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch

from pyg_mspipe.memory import NodeState
from pyg_mspipe.pipeline.record import BatchRecord
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
        device: Where the state is read and written, if a GPU must be done with that before others may.
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
    def still(self) -> Iterator[None]:
        """Keeps the state as it is until the context is left."""
        with self._held():
            yield

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
        generation: The generation of the state that the rows were read from.
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


def sample(source: BatchSource[B], flight: InFlight[B]) -> None:
    """Stage 1: negatives, temporal neighbours, unique nodes and the plan."""
    flight.drawn = source.draw(flight.events, flight.epoch, flight.index)


def gather(source: BatchSource[B], flight: InFlight[B]) -> None:
    """Stage 2: the features of what was sampled."""
    assert flight.drawn is not None
    flight.batch, flight.drawn = source.gather(flight.drawn), None


def fetch(source: BatchSource[B], state: NodeState, flight: InFlight[B], *, catches_up: bool) -> None:
    """Stage 3: reads rows of node memory, at the version that the state has.

    Args:
        source: The source of the batches.
        state: The memory's state.
        flight: The batch.
        catches_up: Whether the rows are brought to the batch's own version later, for which it was planned.
    """
    assert flight.batch is not None
    with flight.state.reading(flight) as version:
        if version < flight.index and not catches_up:
            flight.batch = source.as_of(flight.batch, flight.index, version)
        # What repairs stale rows is read where they can be stale.
        flight.rows = state.fetch(flight.batch, mitigated=state.mitigates and flight.record.bound > 0)


def update(state: NodeState, flight: InFlight[B]) -> None:
    """Stage 5: writes the batch's commit to node memory, if it has one: a batch may be looked at without an update."""
    with flight.state.committing(flight):
        if flight.commit is not None:
            state.apply(flight.commit)
