"""The processes of a run: how they meet and agree, and which of them is to blame when one is gone."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

from pyg_mspipe.distributed.host_processes import process_state
from pyg_mspipe.distributed.memory_turns import REACH, TurnsCancelledError
from pyg_mspipe.distributed.plan import ParallelPlan, Seat

T = TypeVar("T")

_GRACE = 2.0
_LOST = {"gone": "died", "stopped": "is stopped and does not answer"}
_COMMUNICATION = ("gloo", "Gloo", "NCCL", "TCPStore", "Connection", "Timed out waiting")


class TrainerLostError(RuntimeError):
    """Another process of the run is gone, or does not answer; the text says which."""


class DisagreementError(ValueError):
    """The processes of a run were started with different streams or settings."""


@dataclass(frozen=True)
class _Process:
    host: str
    pid: int
    restarts: int


class World:
    """All processes of a run, one trainer each, as torchrun has started them.

    Args:
        plan: The plan, with one process for each trainer.
        device: The device of this process. Gradients on GPUs are exchanged by nccl, everything else by gloo.
        timeout: After how many seconds a process that does not answer is given up; one that does not start is given up
            after five minutes.

    Raises:
        PlanError: If there are more or fewer processes than trainers in the plan, or a memory group would be on two
            hosts.
        TrainerLostError: If the processes do not reach each other.
    """

    def __init__(self, plan: ParallelPlan, device: torch.device, timeout: float) -> None:
        started = int(os.environ.get("WORLD_SIZE", "1"))
        if started != plan.world:
            plan.hosts([started])
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        try:
            store, rank, size = next(iter(rendezvous("env://", timeout=REACH)))
            # When torchrun restarts the run it keeps its store, which still holds the addresses of the last start.
            kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
            self._store = PrefixStore(f"attempt-{_restarts() if kept else 0}", store)
            # All are there before the first of them waits for another with the run's own timeout.
            self._store.set(f"started/{rank}", "")
            self._store.wait([f"started/{other}" for other in range(size)], REACH)
            wait = timedelta(seconds=timeout)
            dist.init_process_group(backend, store=self._store, rank=rank, world_size=size, timeout=wait)
        except (RuntimeError, dist.DistError) as error:
            raise TrainerLostError(
                f"rank {os.environ.get('RANK')} does not reach the others: {_first_line(error)}; if all run, and on "
                f"several hosts, name the network interface that joins these in GLOO_SOCKET_IFNAME"
            ) from error
        self.plan = plan
        self.device = device
        self.timeout = timeout
        self.rank = dist.get_rank()
        own = _Process(_host(), os.getpid(), _restarts())
        self._processes = [own if rank == self.rank else _Process("", 0, 0) for rank in range(plan.world)]
        with self.watched():
            dist.all_gather_object(self._processes, own)
        names = [process.host for process in self._processes]
        plan.hosts([names.count(host) for host in dict.fromkeys(names)])

    @property
    def leads(self) -> bool:
        """Whether this process does the work that is done once for the whole run."""
        return self.rank == 0

    def first(self, value: T) -> T:
        """Returns the first process's ``value`` in every process; the value is pickled."""
        values: list[T] = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    @property
    def restarted(self) -> bool:
        """Whether torchrun has restarted the run after a failure, by the count of its agent on any host."""
        return any(process.restarts for process in self._processes)

    @property
    def seat(self) -> Seat:
        """This process's place in the plan."""
        return self.plan.seat(self.rank)

    def close(self) -> None:
        """Ends the connection to the others."""
        dist.destroy_process_group()

    def agree(self, values: Mapping[str, object]) -> None:
        """Raises in every process if a value is not the same in all processes.

        Args:
            values: The values, by the names that an error shows.

        Raises:
            DisagreementError: If a value differs; the text names the value and the ranks.
        """
        all_values: list[Mapping[str, object]] = [{}] * self.plan.world
        dist.all_gather_object(all_values, dict(values))
        for name in values:
            for rank, others in enumerate(all_values):
                if others.get(name) != all_values[0].get(name):
                    raise DisagreementError(
                        f"rank {rank} has {name} {others.get(name)!r} and rank 0 {all_values[0].get(name)!r}; start "
                        f"all processes with the same stream and flags"
                    )

    def raise_together(self, error: BaseException | None) -> None:
        """Raises in every process if one of them has an error: its own error, or one that names the rank that has one.

        Args:
            error: The error of this process, if it has one.
        """
        problems: list[str | None] = [None] * self.plan.world
        dist.all_gather_object(problems, None if error is None else f"{type(error).__name__}: {error}")
        if error is not None:
            raise error
        for rank, problem in enumerate(problems):
            if problem is not None:
                raise TrainerLostError(f"rank {rank} stopped: {problem}")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Replaces the error that torch raises when another process is gone by one that says which process, and why.

        After an error SIGTERM is ignored: torchrun sends it as soon as one process ends, and this process ends by
        itself once it has reported what it knows.

        Raises:
            TrainerLostError: If another process is gone, or does not answer.
        """
        try:
            yield
        except TrainerLostError:
            raise
        except Exception as error:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if not _is_communication(error):
                self._first_cause(f"rank {self.rank} stopped: {type(error).__name__}: {_first_line(error)}")
                raise
            raise TrainerLostError(self._who_is_lost()) from error

    def other_pids(self, ranks: Iterable[int]) -> list[int]:
        """Returns the process ids of the ranks in ``ranks``, all on this host, without this process's own."""
        return [self._processes[rank].pid for rank in ranks if rank != self.rank]

    def _who_is_lost(self) -> str:
        """Returns which process is gone or does not answer, as the process that noticed first has reported."""
        own = self._processes[self.rank]
        host = own.host.partition("/")[0]
        beside = {rank: each.pid for rank, each in enumerate(self._processes) if each.host == own.host and each.pid}
        until = time.monotonic() + _GRACE
        while time.monotonic() < until:
            states = {rank: process_state(pid) for rank, pid in beside.items()}
            lost = [(rank, state) for rank, state in states.items() if state != "runs"]
            if lost:
                # A process that ended by itself has reported why, and its report comes first; else this text is the
                # report.
                names = [f"rank {rank} (process {beside[rank]} on {host}) {_LOST[state]}" for rank, state in lost]
                return self._first_cause(" and ".join(names))
            known = self._first_cause(None)
            if known:
                return known
            time.sleep(0.05)
        # A process on another host is suspected before the processes here, all of which still run.
        others = [rank for rank in range(self.plan.world) if rank not in beside]
        others = others or [rank for rank in beside if rank != self.rank]
        who = [f"rank {rank} on {self._processes[rank].host.partition('/')[0] or 'its host'}" for rank in others]
        return self._first_cause(f"{' or '.join(who)} was lost, or did not answer in {self.timeout:g} s")

    def _first_cause(self, mine: str | None) -> str:
        """Returns why the run ends, as the first process that knew the cause has reported it.

        Args:
            mine: The cause as far as this process knows it. It becomes the report if no process has made one before.
        """
        key = f"cause/{self._processes[0].pid}"
        try:
            if mine is None:
                said = self._store.get(key) if self._store.check([key]) else b""
            else:
                said = self._store.compare_set(key, "", mine)
            return str(said, "utf-8")
        except (RuntimeError, dist.DistError):  # the store has gone with its host
            return mine or ""


def _is_communication(error: BaseException | None) -> bool:
    """Returns whether an error was raised because another process did not do its part."""
    while error is not None:
        if isinstance(error, dist.DistError | TurnsCancelledError):
            return True
        if isinstance(error, RuntimeError) and any(word in str(error) for word in _COMMUNICATION):
            return True
        error = error.__cause__
    return False


def _first_line(error: BaseException) -> str:
    """Returns the first sentence of an error's text, without the place in torch's sources."""
    line = (str(error).splitlines() or [""])[0]
    return re.sub(r"\[[^] ]*:\d+\] ", "", line).partition(". ")[0]


def _restarts() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def _host() -> str:
    """Returns a name for the host. Agents of torchrun on one host count as hosts, as in network namespaces."""
    return f"{socket.gethostname()}/{os.environ.get('GROUP_RANK', '0')}"
