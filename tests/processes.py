"""Processes for tests: real ones, started fast, and watched for hangs.

What costs most at the start of a process is loading PyTorch. Where a test is about something else its processes are
forked from one that has loaded all; where it is about the start itself, it starts an interpreter.
"""

import atexit
import contextlib
import faulthandler
import functools
import gc
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import uuid
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from torch.distributed import TCPStore

# A piece of work that takes this long on the machine that the limit below was chosen on.
_REFERENCE = 0.15
_run = subprocess.run
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["pyg_mspipe.cli.app", "pyg_mspipe.cli.fitting", "sklearn.metrics", "torch.nn.parallel"])


@functools.cache
def patience() -> float:
    """Seconds after which what should have come is given up: ten times what any test needs, and more on a slow machine.

    How slow a machine is, or how busy, is told by a piece of work that is like any test's: an interpreter that starts.
    """
    begin = time.monotonic()
    for _ in range(3):
        _run([sys.executable, "-c", "import numpy"], check=True)
    return 300.0 * max(1.0, (time.monotonic() - begin) / (3 * _REFERENCE))


class Forked:
    """A process of one thread that runs what an interpreter with the same arguments would, used like a ``Popen``.

    Args:
        command: What follows ``python``: ``-m MODULE``, ``-c CODE`` or a script, and its arguments.
        env: More environment variables.
        cwd: Where it runs.
    """

    def __init__(self, *command: object, env: Mapping[str, str] | None = None, cwd: Path | str | None = None) -> None:
        self.args = command
        self._said = [tempfile.NamedTemporaryFile() for _ in range(2)]  # noqa: SIM115
        weakref.finalize(self, _close, self._said)
        names = [file.name for file in self._said]
        arguments = [*map(str, command)], dict(os.environ) | dict(env or {}), str(cwd or Path.cwd()), names
        self._process = _forks.Process(target=_become, args=arguments, daemon=True)
        self._process.start()
        self.pid: int = self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, which: int) -> None:
        os.kill(self.pid, which)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> int:
        """Waits for its end; one that hangs fails, with the stacks of its threads."""
        self._process.join(patience())
        if self._process.exitcode is None:
            self.send_signal(signal.SIGABRT)  # of which Python's fault handler makes a dump
            self._process.join(10)
            self.kill()
            self._process.join()
            raise AssertionError(f"no end after {patience():.0f} s\n" + "\n".join(self._texts()))
        return self._process.exitcode

    def communicate(self) -> tuple[str, str]:
        """Waits for its end, and returns what it wrote to its output and to its errors."""
        self.wait()
        out, errors = self._texts()
        return out, errors

    def _texts(self) -> list[str]:
        return [os.pread(file.fileno(), 1 << 24, 0).decode() for file in self._said]


def _close(files: Sequence[IO[bytes]]) -> None:
    for file in files:
        file.close()


def _become(command: Sequence[str], env: Mapping[str, str], cwd: str, outputs: Sequence[str]) -> None:
    """Runs a command as an interpreter of its own would."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for number, name in enumerate(outputs, start=1):
        os.dup2(os.open(name, os.O_RDWR | os.O_APPEND), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.enable()
    gc.freeze()  # what was loaded before the fork is never garbage; to look through it takes 0.2 s each time
    import torch

    torch.set_num_threads(1)
    multiprocessing.process.current_process()._config["daemon"] = False  # it may have children as any other
    kind, *rest = command
    if kind in ("-m", "-c"):
        sys.path[0:0] = [cwd]
        sys.argv = ["-c", *rest[1:]] if kind == "-c" else rest
    else:
        sys.path[0:0] = [str(Path(cwd, kind).parent)]
        sys.argv = list(command)
    try:
        if kind == "-m":
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        elif kind == "-c":
            exec(rest[0], {"__name__": "__main__"})
        else:
            runpy.run_path(kind, run_name="__main__")
    finally:
        sys.stdout.flush()
        atexit._run_exitfuncs()


@contextmanager
def together(
    count: int, *command: object, env: Mapping[str, str] | None = None, cwd: Path | str | None = None
) -> Iterator[list[Forked]]:
    """Runs a command in some processes that meet as torchrun's do; those that are left in the end are killed.

    Args:
        count: How many processes.
        command: As :class:`Forked` takes it.
        env: More environment variables.
        cwd: Where they run.
    """
    # As torchrun does: whoever starts the processes serves the store at which they meet.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=patience()))
    common = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GROUP_RANK": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "OMP_NUM_THREADS": "1",
        **(env or {}),
    }
    ranks = map(str, range(count))
    processes = [Forked(*command, env=common | {"RANK": rank, "LOCAL_RANK": rank}, cwd=cwd) for rank in ranks]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()


def torchrun(
    count: int,
    *command: object,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
) -> list[Forked]:
    """Runs a command in processes as :func:`together` does, and returns them when all have ended.

    Args:
        count: How many processes.
        command: As :class:`Forked` takes it.
        check: Whether a process that fails fails the test.
        env: More environment variables.
        cwd: Where they run.
    """
    with together(count, *command, env=env, cwd=cwd) as processes:
        until = time.monotonic() + patience()
        while any(process.poll() is None for process in processes) and time.monotonic() < until:
            if any(process.poll() for process in processes):
                _stop(processes)
            time.sleep(0.01)
        codes = [process.wait() for process in processes]
    assert not check or not any(codes), [process.communicate() for process in processes]
    return processes


def _stop(processes: Sequence[Forked]) -> None:
    """Ends the processes that are left where one has failed, as torchrun does."""
    left = [process for process in processes if process.poll() is None]
    for which, seconds in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 0.0)):
        for process in left:
            if process.poll() is None:
                process.send_signal(which)
        until = time.monotonic() + seconds
        while any(process.poll() is None for process in left) and time.monotonic() < until:
            time.sleep(0.01)


def run_forked(command: Sequence[str], *, cwd: Path | str | None = None, check: bool = False, **options: object) -> Any:
    """Runs a command as ``subprocess.run`` does, forked where it is Python's, alone or under torchrun."""
    python, *rest = map(str, command)
    if python != sys.executable:
        return _run(command, cwd=cwd, check=check, **options)
    if rest[:2] == ["-m", "torch.distributed.run"]:
        place = rest.index("--nproc-per-node")
        processes = torchrun(int(rest[place + 1]), *rest[place + 2 :], cwd=cwd)
        done = subprocess.CompletedProcess(command, 0, "".join(each.communicate()[0] for each in processes), "")
    else:
        process = Forked(*rest, cwd=cwd)
        done = subprocess.CompletedProcess(command, process.wait(), *process.communicate())
    if check:
        done.check_returncode()
    return done


def popen_forked(command: Sequence[str], **options: Any) -> "Forked | subprocess.Popen[str]":
    """Starts Python as ``subprocess.Popen`` does; forked, and then it keeps what it says, unless it is torchrun."""
    if "torch.distributed.run" in command:
        return subprocess.Popen(command, **options)
    return Forked(*command[1:], env=options.get("env"), cwd=options.get("cwd"))


def marked() -> tuple[dict[str, str], str]:
    """Returns an environment for processes of one thread each, and the mark by which they and their own are found."""
    mark = uuid.uuid4().hex
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1", "MARK": mark}, mark


def pids(mark: str) -> list[int]:
    """Returns the ids of all processes that bear a mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # gone, or another user's
            if f"MARK={mark}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def output(process: subprocess.Popen[str], mark: str) -> str:
    """Waits for the end of a process and returns what it said; one that hangs fails, with the stacks of its threads."""
    try:
        said, _ = process.communicate(timeout=patience())
    except subprocess.TimeoutExpired:
        for which, seconds in ((signal.SIGABRT, 5), (signal.SIGKILL, 0)):
            for pid in pids(mark):
                os.kill(pid, which)
            time.sleep(seconds)
        raise AssertionError(f"no end after {patience():.0f} s\n{process.communicate()[0]}") from None
    return said
