"""Two results of the same benchmarks side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.harness.benchmark import Result
from benchmarks.harness.results import numbers

_ABOUT_THE_RUN = ("machine", "settings", "seconds", "peak_rss", "quick")


@dataclass(frozen=True)
class Change:
    """A number that has another value now.

    Attributes:
        benchmark: That has it.
        place: Where it stands.
        old: As it was.
        new: As it is.
    """

    benchmark: str
    place: str
    old: float
    new: float

    @property
    def ratio(self) -> float:
        """New to old; infinite where there was nothing."""
        return self.new / self.old if self.old else float("inf")


def compare(old: dict[str, Result], new: dict[str, Result], least: float) -> Iterator[Change]:
    """Yields the numbers of benchmarks that both have which differ by more than a part ``least`` of the old value."""
    for name in sorted(old.keys() & new.keys()):
        before, after = (dict(numbers(_measured(each[name]))) for each in (old, new))
        for place in before:
            change = Change(name, place, before[place], after.get(place, before[place]))
            if abs(change.new - change.old) > least * abs(change.old):
                yield change


def unlike(old: Result, new: Result) -> list[str]:
    """Returns why two results cannot be compared as they stand: another machine, other settings."""
    reasons = [
        f"{what} was {old['machine'].get(what)} and is {new['machine'].get(what)}"
        for what in ("cpu", "gpu", "cores")
        if old["machine"].get(what) != new["machine"].get(what)
    ]
    before, after = old["settings"], new["settings"]
    return reasons + [
        f"setting {name} was {before.get(name)} and is {after.get(name)}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _measured(result: Result) -> Result:
    return {key: value for key, value in result.items() if key not in _ABOUT_THE_RUN}
