"""Trainings in processes of their own that take turns, some batches each."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TextIO

from benchmarks.harness.benchmark import ROOT
from pyg_mspipe import ParallelPlan
from pyg_mspipe._loading import HUGE_PAGES


@dataclass(frozen=True)
class PacedTraining:
    """A training: a plan on a stream, with one thread for each process.

    Attributes:
        stream: A file or a name.
        plan: ``i x j x k``.
        batch_size: Of each trainer.
        blocks: How many blocks of ``LOSS_BLOCK`` steps it trains in a turn.
        layers: As for ``mspipe train``.
        overlap: Likewise.
    """

    stream: str
    plan: str
    batch_size: int
    blocks: int = 1
    layers: int = 1
    overlap: str = "never"


class _Contestant:
    """A training that is asleep but for its turns.

    Args:
        process: That was started.
        output: What it writes, for errors.
        listener: Where it connects.
    """

    def __init__(self, process: subprocess.Popen[str], output: TextIO, listener: socket.socket) -> None:
        self._process = process
        self._output = output
        self._listener = listener
        self._lines: TextIO | None = None
        self._pid = 0

    def wait(self) -> None:
        """Waits until its first turn is over, which warms up and does not count, as others start meanwhile."""
        self._lines = self._accepted()
        self._pid = int(self._line())
        self._turn()

    def train(self) -> float:
        """Returns the events per second of a turn."""
        assert self._lines is not None
        self._signal(signal.SIGCONT)
        self._lines.write("go\n")
        self._lines.flush()
        events, seconds = self._turn()
        return events / seconds

    def end(self) -> None:
        """Has it stop, and waits for that."""
        if self._lines is None:
            self._process.terminate()
        else:
            self._lines.close()
            self._signal(signal.SIGCONT)
        self._process.wait()

    def _turn(self) -> tuple[float, float]:
        events, seconds = map(float, self._line().split())
        # Threads of its pipeline, and torchrun, are not to work on in the turns of others.
        self._signal(signal.SIGSTOP)
        return events, seconds

    def _signal(self, which: signal.Signals) -> None:
        for pid in {self._process.pid, self._pid}:
            with suppress(ProcessLookupError):  # it has failed, which the next line from it will tell
                os.kill(pid, which)

    def _line(self) -> str:
        assert self._lines is not None
        return self._lines.readline() or self._fail()

    def _accepted(self) -> TextIO:
        self._listener.settimeout(1)
        while self._process.poll() is None:
            with suppress(TimeoutError):
                connection, _ = self._listener.accept()
                connection.settimeout(None)
                with connection:
                    return connection.makefile("rw")
        self._fail()

    def _fail(self) -> NoReturn:
        self._process.wait()
        self._output.seek(0)
        raise RuntimeError(f"{self._process.args!r} has ended:\n{self._output.read()}")


def take_turns(rows: Mapping[str, Sequence[PacedTraining]], rounds: int) -> Iterator[dict[str, list[float]]]:
    """Yields for each round how many events each training of each row has trained in a second of its turn.

    A turn is short, so that what else the machine does meets all rows alike; each round begins with another row, so
    that none profits from its place.

    Args:
        rows: The trainings of each row, which train at the same time.
        rounds: How many.

    Raises:
        RuntimeError: If a training fails.
    """
    with ExitStack() as stack:
        started = {label: [stack.enter_context(_started(each)) for each in row] for label, row in rows.items()}
        for row in started.values():
            for contestant in row:
                contestant.wait()
        labels = list(rows)
        pool = stack.enter_context(ThreadPoolExecutor(max(len(row) for row in rows.values())))
        for turn in range(rounds):
            rates = {}
            for place in range(len(labels)):
                label = labels[(turn + place) % len(labels)]
                rates[label] = list(pool.map(_Contestant.train, started[label]))
            yield {label: rates[label] for label in labels}


@contextmanager
def _started(training: PacedTraining) -> Iterator[_Contestant]:
    world = ParallelPlan.parse(training.plan).world
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(world), "-m"]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        output = stack.enter_context(tempfile.TemporaryFile("w+"))
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        address = str(Path(folder) / "turns")
        listener.bind(address)
        listener.listen()
        arguments = json.dumps({"address": address, **vars(training)})
        command = [sys.executable, "-m", *(torchrun if world > 1 else []), "benchmarks.harness.paced", arguments]
        environment = HUGE_PAGES | os.environ | {"OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT, env=environment, text=True)
        contestant = _Contestant(process, output, listener)
        stack.callback(contestant.end)
        yield contestant
