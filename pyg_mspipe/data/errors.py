"""The one error of the data layer."""


class StreamError(ValueError):
    """A stream, a source or a split cannot be used; the text says what is wrong, where, and how to mend it.

    Args:
        *problems: One line for each problem; the first is the text of the error.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)

    @property
    def problems(self) -> tuple[str, ...]:
        """All problems that were found; for each kind of problem, the first event that shows it."""
        return self.args

    def __str__(self) -> str:
        """Returns the first problem."""
        problems = self.problems
        return problems[0] if problems else ""
