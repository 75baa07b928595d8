"""A benchmark, and what it is given when it runs."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from rich.console import Console

from benchmarks.harness.machine import describe_machine

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
"""Where real streams are, on machines that have them; elsewhere a synthetic one takes their place."""

S = TypeVar("S")
Result = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One run of a benchmark.

    Attributes:
        quick: Whether it is only to be seen that it works.
        console: For tables and lines of progress.
    """

    quick: bool
    console: Console


def runs_anywhere() -> str | None:
    """Returns nothing: there is no reason why not."""
    return None


@dataclass(frozen=True)
class Benchmark(Generic[S]):
    """Something to be measured.

    Attributes:
        name: Of the benchmark and its file of results.
        about: A line for the list.
        minutes: What it takes on two cores.
        measure: Measures and returns plain values, to be written as JSON.
        settings: A frozen dataclass of numbers, texts and tuples of them.
        quick: The settings with which it ends in seconds.
        why_not: Returns why it cannot run on this machine, if so.
    """

    name: str
    about: str
    minutes: float
    measure: Callable[[S, Run], Result]
    settings: S
    quick: S
    why_not: Callable[[], str | None] = runs_anywhere

    def run(self, console: Console, *, quick: bool = False, changes: Mapping[str, str] | None = None) -> Result:
        """Returns what was measured, with all that a reader needs to judge it.

        Args:
            console: For tables and lines of progress.
            quick: Whether it is only to be seen that it works.
            changes: Settings by name, as texts.

        Raises:
            ValueError: If there is no such setting, or a value cannot be read.
        """
        settings = changed(self.settings if not quick else self.quick, changes or {})
        torch.set_num_threads(getattr(settings, "threads", 1))
        machine = describe_machine()
        began = time.perf_counter()
        result = self.measure(settings, Run(quick, console))
        return {
            "benchmark": self.name,
            "about": self.about,
            "machine": machine,
            "settings": asdict(settings),  # type: ignore[call-overload]
            "quick": quick,
            "seconds": round(time.perf_counter() - began, 3),
            "peak_rss": peak_rss(),
            **result,
        }


def changed(settings: S, changes: Mapping[str, str]) -> S:
    """Returns settings with some values replaced: numbers, texts, or lists of them with commas.

    Raises:
        ValueError: If there is no such setting, or a value cannot be read.
    """
    known = {field.name: getattr(settings, field.name) for field in fields(settings)}  # type: ignore[arg-type]
    values: dict[str, object] = {}
    for name, text in changes.items():
        if name not in known:
            raise ValueError(f"there is no setting {name!r}; there are {', '.join(known) or 'none'}")
        old = known[name]
        try:
            if isinstance(old, tuple):
                values[name] = tuple(_value(part, old[0]) for part in text.split(","))
            else:
                values[name] = _value(text, old)
        except ValueError as error:
            raise ValueError(f"{name}={text!r} cannot be read; it is {json.dumps(old)} by default") from error
    return replace(settings, **values)  # type: ignore[type-var]


def _value(text: str, like: object) -> object:
    if isinstance(like, bool):
        if text not in ("true", "false"):
            raise ValueError(text)
        return text == "true"
    kind: Callable[[str], object] = type(like)
    return kind(text)


def peak_rss() -> int:
    """Returns the largest resident set of this process or one that it has started, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def find_stream(name: str) -> Path | None:
    """Returns the file of a stream, given by that or by the name of a real one; none where there is no such file."""
    paths = [path for path in (Path(name), SHARED / f"{name}.npz") if path.is_file()]
    return paths[0] if paths else None
