"""The one error of the data layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LONGEST = 900


class Problem(str):
    """A line that says what is wrong.

    Attributes:
        mends: The arguments of `load_stream` that mend it; none where no argument does.
    """

    mends: dict[str, Any]

    def __new__(cls, text: str, **mends: Any) -> Problem:
        """Returns the line with its mends."""
        problem = super().__new__(cls, text)
        problem.mends = mends
        return problem


class StreamError(ValueError):
    """A stream, a source or a split cannot be used; the text says what is wrong, where, and how to mend it.

    Args:
        *problems: One line for each problem; the first is the text of the error.
        mends: The arguments of `load_stream` that mend all of them together; none where no arguments do.
    """

    def __init__(self, *problems: str, mends: Mapping[str, Any] | None = None) -> None:
        super().__init__(*map(_in_short, problems))
        self.mends = dict(mends or {})

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All problems that were found; for each kind of problem, the first event that shows it."""
        return self.args

    def __str__(self) -> str:
        """Returns the first problem."""
        problems = self.problems
        return str(problems[0]) if problems else ""


def _in_short(problem: str) -> Problem:
    """Returns a problem as one line: what a file holds may have line breaks, and be of any length."""
    line = " ".join(problem.split())
    short = line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 3 :]}"
    return Problem(short, **getattr(problem, "mends", {}))
