"""Flags that several commands have, written once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def with_flags(command: Callable[..., None], into: str, flags: Mapping[str, tuple[Any, Any]]) -> Callable[..., None]:
    """Returns a command with flags in place of one of its parameters, which gets their values as a dictionary.

    Args:
        command: A function with a parameter that is named ``into``.
        into: The name of the parameter.
        flags: The type (annotated with what the command line shows) and the default of each flag, by its name.
    """
    signature = inspect.signature(command, eval_str=True)
    own = [each.replace(kind=_KEYWORD) for name, each in signature.parameters.items() if name != into]
    more = [inspect.Parameter(name, _KEYWORD, default=flags[name][1], annotation=flags[name][0]) for name in flags]

    def run(**values: Any) -> None:
        given = {name: values.pop(name) for name in flags}
        command(**values, **{into: given})

    run.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *more)}
    run.__name__ = command.__name__
    run.__doc__ = command.__doc__
    return run
