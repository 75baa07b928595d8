"""Pages with what results say.

Blocks stand between ``<!-- results: NAME -->`` and ``<!-- /results -->``; single figures within a line between
``<!-- value: NAME(ARGUMENT, ...) -->`` and ``<!-- /value -->``. A block with nothing in it waits for its first results.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from benchmarks.harness.benchmark import ROOT, Result
from benchmarks.report.blocks import BLOCKS
from benchmarks.report.values import VALUES

T = TypeVar("T")

_BLOCK = re.compile(r"(<!-- results: (\w+) -->\n)(.*?)(<!-- /results -->)", re.DOTALL)
_VALUE = re.compile(r"(<!-- value: (\w+)(?:\((.*?)\))? -->).*?(<!-- /value -->)")


def pages() -> Iterator[Path]:
    """Yields the README and all pages of the documentation."""
    yield ROOT / "README.md"
    yield from sorted((ROOT / "docs").rglob("*.md"))


def filled(text: str, results: dict[str, Result]) -> str:
    """Returns a page's text with all blocks and figures written anew.

    Raises:
        ValueError: If a page wants one that there is none of, or shows one whose benchmark has no results, or a row
            that these do not have.
    """

    def block(match: re.Match[str]) -> str:
        write, needs = _known("block", match[2], BLOCKS)
        if not match[3] and not results.keys() >= set(needs):
            return match[0]
        return f"{match[1]}\n{write(*_read(match[2], needs, results))}\n\n{match[4]}"

    def value(match: re.Match[str]) -> str:
        write, need = _known("value", match[2], VALUES)
        arguments = match[3].split(", ") if match[3] else []
        return f"{match[1]}{write(*_read(match[2], (need,), results), *arguments)}{match[4]}"

    return _VALUE.sub(value, _BLOCK.sub(block, text))


def _known(kind: str, name: str, known: Mapping[str, T]) -> T:
    if name not in known:
        raise ValueError(f"there is no {kind} {name!r}; there are {', '.join(known)}")
    return known[name]


def _read(name: str, needs: tuple[str, ...], results: dict[str, Result]) -> list[Result]:
    missing = [each for each in needs if each not in results]
    if missing:
        raise ValueError(f"{name!r} needs results; python -m benchmarks run {' '.join(missing)}")
    return [results[each] for each in needs]


def outdated(results: dict[str, Result]) -> dict[Path, str]:
    """Returns the pages whose blocks do not say what the results do, with what they should be."""
    found = {}
    for page in pages():
        text = page.read_text(encoding="utf-8")
        new = filled(text, results)
        if new != text:
            found[page] = new
    return found
