"""Turns at the memory of a group: each trainer waits until it may read or commit."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from pyg_mspipe.distributed.schedule import Access

REACH = timedelta(minutes=5)
"""How long a process tries to reach another at the start, when one may have loaded long before the other."""

_DONE, _CANCELLED = "done", "cancelled"


class TurnsCancelledError(RuntimeError):
    """This process has given up waiting for its turn, because it ends its sweep."""


@dataclass(frozen=True)
class AccessRecord:
    """One access to the state.

    Attributes:
        kind: Whether it was a read or a commit.
        position: The place of the batch in the sweep.
        part: Which of the ``i`` trainers of the batch made the access.
        begin: When the access began, in nanoseconds of the host's monotonic clock.
        finish: When the access was done, by the same clock.
    """

    kind: Access
    position: int
    part: int
    begin: int
    finish: int


class MemoryTurns:
    """Lets the trainers of a memory group read and commit in the order of DistTGL (SC 2023, section 3.3).

    The parts of a batch are read once all batches before it are committed. They are committed, one part after the
    other, once all of them have been read. Each process reports what it has done to a small store of torch.distributed,
    which wakes the processes that wait for it.

    Args:
        host: Where the store of the group is served.
        port: The port of the store.
        parts: How many trainers share a batch, ``i``.
        part: Which of these trainers this process is, from 0.
        timeout: How long to wait for a turn, in seconds.
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
        # A client is blocked while it waits, so each thread that may wait has a client of its own.
        self._reading, self._committing, self._cancelling = (
            TCPStore(host, port, is_master=False, timeout=REACH) for _ in range(3)
        )
        for store in (self._reading, self._committing, self._cancelling):
            store.set_timeout(timedelta(seconds=timeout))
        self._sweep = ""
        self._first = 0
        self._awaited: dict[Access, str] = {}
        self.cancelled = False
        self._begin: dict[Access, int] = {}

    def start(self, sweep: str, first: int) -> None:
        """Begins a sweep, or the rest of one: all batches before position ``first`` are committed.

        Args:
            sweep: A name for the sweep, the same in all processes of the group and used for no other sweep.
            first: The position to begin with.
        """
        self._sweep, self._first, self.cancelled = sweep, first, False

    def begin_read(self, position: int) -> None:
        """Waits until all batches before a batch are committed.

        Raises:
            TurnsCancelledError: If :meth:`cancel` was called.
            torch.distributed.DistStoreError: If the wait takes longer than the timeout.
        """
        if position > self._first:
            self._await("read", self._reading, self._key("commit", position - 1, self.parts - 1))
        self._begin["read"] = time.monotonic_ns()

    def end_read(self, position: int) -> None:
        """Reports that this process has read its part of a batch."""
        self._note("read", position)
        if self.parts > 1:
            self._reading.set(self._key("read", position, self.part), _DONE)

    def begin_commit(self, position: int) -> None:
        """Waits until all parts of a batch have been read, and the parts before this process's are committed.

        Raises:
            TurnsCancelledError: If :meth:`cancel` was called.
            torch.distributed.DistStoreError: If the wait takes longer than the timeout.
        """
        if self.part > 0:
            self._await("commit", self._committing, self._key("commit", position, self.part - 1))
        else:
            for other in range(1, self.parts):
                self._await("commit", self._committing, self._key("read", position, other))
        self._begin["commit"] = time.monotonic_ns()

    def end_commit(self, position: int) -> None:
        """Reports that this process has committed its part of a batch."""
        self._note("commit", position)
        store = self._committing
        if self.part == self.parts - 1:
            # No process waits for these keys any more, or this commit would not have had its turn.
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
            # If the store is gone, no process waits for it any more.
            with suppress(dist.DistError):
                self._cancelling.set(key, _CANCELLED)

    def _await(self, kind: Access, store: TCPStore, key: str) -> None:
        self._awaited[kind] = key
        value = _CANCELLED if self.cancelled else store.get(key).decode()
        del self._awaited[kind]
        # Other processes that wait for this key are woken too; they must not go on as if the access had been made.
        if self.cancelled or value == _CANCELLED:
            raise TurnsCancelledError(f"waited for {key}, which was given up")

    def _note(self, kind: Access, position: int) -> None:
        if self.log is not None:
            finish = time.monotonic_ns()
            self.log.append(AccessRecord(kind, position, self.part, self._begin[kind], finish))

    def _key(self, kind: Access, position: int, part: int) -> str:
        return f"{self._sweep}/{kind}/{position}/{part}"
