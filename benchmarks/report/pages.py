"""Pages with blocks of results, between ``<!-- results: NAME -->`` and ``<!-- /results -->``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness.benchmark import ROOT, Result
from benchmarks.report.blocks import BLOCKS

_BLOCK = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- /results -->)", re.DOTALL)


def pages() -> Iterator[Path]:
    """Yields the README and all pages of the documentation."""
    yield ROOT / "README.md"
    yield from sorted((ROOT / "docs").rglob("*.md"))


def filled(text: str, results: dict[str, Result]) -> str:
    """Returns a page's text with all blocks written anew.

    Raises:
        ValueError: If a page wants a block that there is none of, or one whose benchmark has no results.
    """

    def fill(match: re.Match[str]) -> str:
        name = match[2]
        if name not in BLOCKS:
            raise ValueError(f"there is no block {name!r}; there are {', '.join(BLOCKS)}")
        write, needs = BLOCKS[name]
        missing = [each for each in needs if each not in results]
        if missing:
            raise ValueError(f"block {name!r} needs results; python -m benchmarks run {' '.join(missing)}")
        return f"{match[1]}\n{write(*(results[each] for each in needs))}\n\n{match[3]}"

    return _BLOCK.sub(fill, text)


def outdated(results: dict[str, Result]) -> dict[Path, str]:
    """Returns the pages whose blocks do not say what the results do, with what they should be."""
    found = {}
    for page in pages():
        text = page.read_text(encoding="utf-8")
        new = filled(text, results)
        if new != text:
            found[page] = new
    return found
