"""The one error of the data layer."""


class StreamError(ValueError):
    """A stream, its source or its split that cannot be used; one line that says what, where and how to mend it."""
