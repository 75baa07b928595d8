"""Turns at a memory group's state: reads and commits in one order, by waiting."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from pyg_mspipe.distributed.schedule import Access

_DONE, _CANCELLED = "done", "cancelled"


class TurnsCancelledError(RuntimeError):
    """Waiting for a turn was given up, as this process ends its sweep."""


@dataclass(frozen=True)
class AccessRecord:
    """One access to the state.

    Attributes:
        kind: What was done.
        position: For which batch of the sweep.
        part: By which of the ``i`` trainers of that batch.
        begin: When, in nanoseconds of the host's monotonic clock.
        finish: When it was done.
    """

    kind: Access
    position: int
    part: int
    begin: int
    finish: int


class MemoryTurns:
    """Lets the trainers of a memory group read and commit in the order of DistTGL (SC 2023, section 3.3).

    All parts of a batch are read when all commits of the batches before it are in, and committed, one part after the
    other, when all of its parts have been read. Each process says what it has done in a small store of
    torch.distributed, which wakes those who wait for it.

    Args:
        host: Where the store of the group is served.
        port: Of the store.
        parts: How many trainers share a batch, ``i``.
        part: Which of them this is.
        timeout: In seconds, for a turn to come.
        log: Gets a record of each access, if given.

    Attributes:
        cancelled: Whether this process has given up waiting.
    """

    def __init__(
        self,
        host: str,
        port: int,
        parts: int,
        part: int,
        timeout: float,
        log: list[AccessRecord] | None = None,
    ) -> None:
        self.parts = parts
        self.part = part
        self.log = log
        # A client is blocked while it waits, so whoever waits has one of its own.
        self._reading, self._committing, self._cancelling = (
            TCPStore(host, port, is_master=False, timeout=timedelta(seconds=timeout)) for _ in range(3)
        )
        self._sweep = ""
        self._first = 0
        self._awaited: dict[Access, str] = {}
        self.cancelled = False
        self._begin: dict[Access, int] = {}

    def start(self, sweep: str, first: int) -> None:
        """Begins a sweep, or what is left of it: commits before position ``first`` are in.

        Args:
            sweep: Its name, the same in all processes of the group and no other sweep's.
            first: The position to begin with.
        """
        self._sweep, self._first, self.cancelled = sweep, first, False

    def begin_read(self, position: int) -> None:
        """Waits until all commits before a batch are in.

        Raises:
            TurnsCancelledError: If :meth:`cancel` was called.
            torch.distributed.DistStoreError: If that takes longer than the timeout.
        """
        if position > self._first:
            self._await("read", self._reading, self._key("commit", position - 1, self.parts - 1))
        self._begin["read"] = time.monotonic_ns()

    def end_read(self, position: int) -> None:
        """Says that this part of a batch has been read."""
        self._note("read", position)
        if self.parts > 1:
            self._reading.set(self._key("read", position, self.part), _DONE)

    def begin_commit(self, position: int) -> None:
        """Waits until all parts of the batch have been read, and those before this one committed.

        Raises:
            TurnsCancelledError: If :meth:`cancel` was called.
            torch.distributed.DistStoreError: If that takes longer than the timeout.
        """
        if self.part > 0:
            self._await("commit", self._committing, self._key("commit", position, self.part - 1))
        else:
            for other in range(1, self.parts):
                self._await("commit", self._committing, self._key("read", position, other))
        self._begin["commit"] = time.monotonic_ns()

    def end_commit(self, position: int) -> None:
        """Says that this part of a batch is committed."""
        self._note("commit", position)
        store = self._committing
        if self.part == self.parts - 1:
            # Nobody waits for these any more: whoever did has read, or this commit would not be.
            stale = [self._key("commit", position - 1, self.parts - 1)]
            stale += [self._key("read", position, part) for part in range(self.parts if self.parts > 1 else 0)]
            stale += [self._key("commit", position, part) for part in range(self.parts - 1)]
            for key in stale:
                store.delete_key(key)
        store.set(self._key("commit", position, self.part), _DONE)

    def cancel(self) -> None:
        """Ends all waiting in this process."""
        self.cancelled = True
        for key in tuple(self._awaited.values()):
            # Where the store is gone, so is all waiting for it.
            with suppress(dist.DistError):
                self._cancelling.set(key, _CANCELLED)

    def _await(self, kind: Access, store: TCPStore, key: str) -> None:
        self._awaited[kind] = key
        value = _CANCELLED if self.cancelled else store.get(key).decode()
        del self._awaited[kind]
        # Others that wait for the same are woken too, and nobody goes on as if it had been done.
        if self.cancelled or value == _CANCELLED:
            raise TurnsCancelledError(f"waited for {key}, which was given up")

    def _note(self, kind: Access, position: int) -> None:
        if self.log is not None:
            finish = time.monotonic_ns()
            self.log.append(AccessRecord(kind, position, self.part, self._begin[kind], finish))

    def _key(self, kind: Access, position: int, part: int) -> str:
        return f"{self._sweep}/{kind}/{position}/{part}"
