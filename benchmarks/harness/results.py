"""Where results are kept: a folder for each machine, a JSON file for each benchmark."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness.benchmark import ROOT, Result
from pyg_mspipe.data.atomic_write import atomic_write

RESULTS = ROOT / "benchmarks" / "results"
QUICK = "quick"
"""The folder of runs that measured nothing."""


def machine_name(machine: dict[str, Any]) -> str:
    """Returns a folder's name for a machine: its GPU if it has one, else its processor, and the number of cores."""
    processor = machine.get("gpu") or machine["cpu"]
    return re.sub(r"[^a-z0-9]+", "-", f"{processor} {machine['cores']} cores".lower()).strip("-")


def path_of(benchmark: str, machine: dict[str, Any], quick: bool, folder: Path = RESULTS) -> Path:
    """Returns the file that a benchmark's result on a machine belongs into."""
    return folder / (QUICK if quick else machine_name(machine)) / f"{benchmark}.json"


def write_result(result: Result, folder: Path = RESULTS) -> Path:
    """Writes a result and returns its file; whoever reads it sees the old one or the new one, never a part."""
    path = path_of(result["benchmark"], result["machine"], result["quick"], folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(f"{json.dumps(result, indent=2)}\n".encode())
    return path


def read_results(path: Path) -> dict[str, Result]:
    """Returns the results in a folder, or of one file, by the name of their benchmark.

    Raises:
        ValueError: If there are none.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.json"))
    if not files:
        raise ValueError(f"{path} has no results; give a file, or a machine's folder in {RESULTS}")
    loaded = [json.loads(file.read_text()) for file in files]
    return {result["benchmark"]: result for result in loaded}


def newest_results(folder: Path = RESULTS) -> dict[str, Result]:
    """Returns the last result of every benchmark, of whatever machine, by the benchmark's name.

    Raises:
        ValueError: If there are none.
    """
    found: dict[str, Result] = {}
    for machine in sorted(path for path in folder.iterdir() if path.is_dir() and path.name != QUICK):
        for name, result in read_results(machine).items():
            if name not in found or result["machine"]["taken"] > found[name]["machine"]["taken"]:
                found[name] = result
    if not found:
        raise ValueError(f"{folder} has no results; python -m benchmarks run --all")
    return found


def numbers(value: object, at: str = "") -> Iterator[tuple[str, float]]:
    """Yields all numbers in a result with their places, such as ``rows.minimal.rate``.

    A row in a list is named by its texts, where it has any, so that rows may be added without moving the others.
    """
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return
    if isinstance(value, (int, float)):
        yield at, float(value)
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from numbers(each, f"{at}.{key}" if at else str(key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            names = [text for text in each.values() if isinstance(text, str)] if isinstance(each, dict) else []
            yield from numbers(each, f"{at}[{', '.join(names) or index}]")
