"""The one error of the data layer."""


class StreamError(ValueError):
    """A stream, its source or its split that cannot be used; one line that says what, where and how to mend it.

    Args:
        *problems: Such lines; the first is the error's text.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)

    @property
    def problems(self) -> tuple[str, ...]:
        """All that was found, of each kind of problem the first event that shows it."""
        return self.args

    def __str__(self) -> str:
        """Returns the first of them."""
        problems = self.problems
        return problems[0] if problems else ""
