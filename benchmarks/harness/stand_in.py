"""A stand-in for a CUDA device on machines without one: it counts what a GPU would be given, and takes no time."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch

from benchmarks.harness.benchmark import ROOT
from pyg_mspipe.tasks import captured_step

TOOL = Path(os.environ.get("SHADOW_CUDA", ROOT.parent / "shared" / "tools" / "shadow_cuda.py"))
"""Where the stand-in is: beside the repository, or where the environment says."""

CAPTURED = "captured"
"""The section in which what a CUDA graph holds is counted."""


def why_not() -> str | None:
    """Returns why there is no stand-in here."""
    if not TOOL.is_file():
        return f"the stand-in for a GPU, {TOOL}, is not there"
    return None if shutil.which("g++") else "the stand-in for a GPU needs g++"


@contextmanager
def stand_in(**options: Any) -> Iterator[Any]:
    """Gives torch a CUDA device until the context is left; in a process in which no backward pass has been done yet.

    CUDA graphs are not simulated: what one holds is launched each time, and counted under :data:`CAPTURED`.

    Args:
        **options: Of the stand-in.
    """
    with load().device(**options) as gpu, mock.patch.object(captured_step, "record", partial(_record, gpu)):
        yield gpu


@cache
def load() -> ModuleType:
    """Returns the stand-in, whose device autograd knows of from then on."""
    spec = importlib.util.spec_from_file_location("shadow_cuda", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["shadow_cuda"] = module
    spec.loader.exec_module(module)
    with module.device():
        torch.ones(1, device="cuda", requires_grad=True).sum().backward()
    return module


def _record(gpu: Any, work: Callable[[], Any], stream: Any, pool: Any = None) -> tuple[Any, Any]:
    def replay() -> Any:
        with gpu.section(CAPTURED):
            return work()

    return replay, None
