"""The one error of the data layer."""

_LONGEST = 900


class StreamError(ValueError):
    """A stream, a source or a split cannot be used; the text says what is wrong, where, and how to mend it.

    Args:
        *problems: One line for each problem; the first is the text of the error.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(*map(_in_short, problems))

    @property
    def problems(self) -> tuple[str, ...]:
        """All problems that were found; for each kind of problem, the first event that shows it."""
        return self.args

    def __str__(self) -> str:
        """Returns the first problem."""
        problems = self.problems
        return problems[0] if problems else ""


def _in_short(problem: str) -> str:
    """Returns a problem as one line: what a file holds may have line breaks, and be of any length."""
    line = " ".join(problem.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 3 :]}"
