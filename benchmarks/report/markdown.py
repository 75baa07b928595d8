"""Tables and captions in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.harness.benchmark import Result


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def command(result: Result) -> str:
    """Returns the command that makes a result again, as a block of code, and how long that took if it is known."""
    took = ""
    if result["seconds"]:
        minutes = max(1, round(result["seconds"] / 60))
        took = f"    # {minutes} minutes" if minutes > 1 else "    # a minute"
    return f"    python -m benchmarks run {result['benchmark']}{took}"


def machine(result: Result) -> str:
    """Returns what was measured with."""
    about = result["machine"]
    torch = about["versions"]["torch"].split("+")[0]
    return f"{about.get('gpu') or about['cpu']}, {about['cores']} cores, torch {torch}, {about['taken'][:10]}"


def stream_title(name: str) -> str:
    """Returns what a stream is called in a text."""
    return {"collegemsg": "CollegeMsg"}.get(name, name.capitalize())


def percent(share: float, digits: int = 0) -> str:
    """Returns a share as percent."""
    return f"{100 * share:.{digits}f} %"


def spread(mean: float, deviation: float, digits: int = 4) -> str:
    """Returns a mean with its standard deviation."""
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def seeds(number: int) -> str:
    """Returns how many seeds there were."""
    return "one seed" if number == 1 else f"{number} seeds"
