"""A process with a stand-in for a CUDA device, as its first backward pass must know of the device.

The stand-in, ``shadow_cuda.py``, is beside the repository or where ``SHADOW_CUDA`` says; where it is in neither place,
tests that need it are skipped.
"""

import importlib.util
import multiprocessing
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from processes import patience

from pyg_mspipe.tasks import captured_step

_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "tools" / "shadow_cuda.py"
PLACE = Path(os.environ.get("SHADOW_CUDA", _BESIDE))


def why_not() -> str | None:
    """Why there is no stand-in, if so."""
    if not PLACE.is_file():
        return f"no CUDA device, and no stand-in at {PLACE}"
    return None if shutil.which("g++") else "no CUDA device, and no g++ for its stand-in"


def load_shadow() -> ModuleType:
    """The stand-in, in a process that has run no backward pass; torch knows of the device from then on."""
    import torch

    spec = importlib.util.spec_from_file_location("shadow_cuda", PLACE)
    assert spec is not None
    assert spec.loader is not None
    shadow = importlib.util.module_from_spec(spec)
    sys.modules["shadow_cuda"] = shadow
    spec.loader.exec_module(shadow)
    with shadow.device():
        torch.ones(1, device="cuda", requires_grad=True).sum().backward()
    return shadow


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
    shadow = load_shadow()
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        try:
            connection.send(("done", answer(shadow, **request)))
        except BaseException:
            connection.send(("error", traceback.format_exc()))


def answer(
    shadow: ModuleType, run: str, settings: dict[str, Any], lag: int, reference: dict[str, Any] | None
) -> dict[str, Any]:
    """The numbers of a run on the stand-in and, of other settings, on the CPU, and the hazards.

    Args:
        shadow: The module.
        run: Its name in ``device_runs.RUNS``.
        settings: Of the run.
        lag: How often an event says that it is not over.
        reference: The settings of the run on the CPU; none for no such run.
    """
    from device_runs import RUNS

    expected = None if reference is None else RUNS[run]("cpu", **reference)
    device = shadow.device(shared_random=True, lag=lag, strict=True)
    with device as gpu, mock.patch.object(captured_step, "record", partial(_record, gpu)):
        found = RUNS[run]("cuda", **settings)
        hazards = [str(each) for each in gpu.hazards]
        waits = [f"{name} at {where}" for section, name, where in gpu.counts.syncs if section == "captured"]
        unordered = [f"{name} without order" for section, name in gpu.counts.unordered if section == "captured"]
    return {"found": found, "expected": expected, "hazards": [*hazards, *waits, *unordered]}


def _record(gpu: Any, work: Callable[[], Any], stream: Any, pool: Any = None) -> tuple[Callable[[], Any], None]:
    """Does what a CUDA graph would hold each time, as the stand-in knows no graphs."""

    def replay() -> Any:
        with gpu.section("captured"):
            return work()

    return replay, None
