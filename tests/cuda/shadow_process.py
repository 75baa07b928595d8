"""A process with a stand-in for a CUDA device, as its first backward pass must know of the device.

The stand-in, ``shadow_cuda.py``, is beside the repository or where ``SHADOW_CUDA`` says; where it is in neither place,
tests that need it are skipped.
"""

import multiprocessing
import os
import signal
import traceback
from multiprocessing.connection import Connection
from typing import Any

from processes import patience

from benchmarks.harness.stand_in import CAPTURED, load, stand_in
from pyg_mspipe.tasks import captured_step


class ShadowProcess:
    """Runs functions of ``device_runs`` on the stand-in, and on the CPU beside it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("forkserver")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other,), daemon=True)
        self._process.start()
        other.close()

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def __call__(self, request: dict[str, Any]) -> dict[str, Any]:
        """What :func:`answer` returns; an error there is raised here."""
        self._connection.send(request)
        if not self._connection.poll(patience()):
            os.kill(self._process.pid or 0, signal.SIGABRT)  # of which Python's fault handler makes a dump
            self.end()
            raise AssertionError(f"no end of {request} after {patience():.0f} s")
        try:
            kind, value = self._connection.recv()
        except EOFError:
            raise AssertionError(f"the process of {request} has died") from None
        if kind == "error":
            raise AssertionError(value)
        return value  # type: ignore[no-any-return]

    def end(self) -> None:
        self._connection.close()
        self._process.join(5)
        self._process.kill()


def _serve(connection: Connection) -> None:
    import faulthandler

    import torch

    from pyg_mspipe.memory import time_encoder
    from pyg_mspipe.pipeline import padding

    faulthandler.enable()
    torch.set_num_threads(1)
    # On a CPU cosines are taken modulo two pi, which rounds; as on a CUDA device, numbers are equal to the bit.
    time_encoder._remainder = lambda x: x
    # Few steps are taken, so the first of them are recorded, and one size is enough.
    captured_step.WARM_UP = 0
    padding._QUANTILES = (1.0,)
    load()
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        try:
            connection.send(("done", answer(**request)))
        except BaseException:
            connection.send(("error", traceback.format_exc()))


def answer(run: str, settings: dict[str, Any], lag: int, reference: dict[str, Any] | None) -> dict[str, Any]:
    """The numbers of a run on the stand-in and, of other settings, on the CPU, and the hazards.

    Args:
        run: Its name in ``device_runs.RUNS``.
        settings: Of the run.
        lag: How often an event says that it is not over.
        reference: The settings of the run on the CPU; none for no such run.
    """
    from device_runs import RUNS

    expected = None if reference is None else RUNS[run]("cpu", **reference)
    with stand_in(shared_random=True, lag=lag, strict=True) as gpu:
        found = RUNS[run]("cuda", **settings)
        hazards = [str(each) for each in gpu.hazards]
        waits = [f"{name} at {where}" for section, name, where in gpu.counts.syncs if section == CAPTURED]
        unordered = [f"{name} without order" for section, name in gpu.counts.unordered if section == CAPTURED]
    return {"found": found, "expected": expected, "hazards": [*hazards, *waits, *unordered]}
