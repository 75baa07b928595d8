"""The command that a user has typed, with the flags that mend what was wrong with its stream."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import typer

from pyg_mspipe.distributed.torchrun import torchrun_started

_FLAG_OF = {"src": "src", "dst": "dst", "t": "time", "msg": "msg", "y": "label"}


def mended_command(ctx: typer.Context | None, mends: Mapping[str, Any]) -> str | None:
    """Returns a command as it was typed, with the flags that mend its stream; None if flags do not mend it.

    Args:
        ctx: The command's context.
        mends: The arguments of :func:`load_stream` that mend the stream.
    """
    parameters = {} if ctx is None else {str(each.name): each for each in ctx.command.params}
    flags = reading_flags(mends)
    if ctx is None or not flags or not set(flags) <= set(parameters):
        return None
    sources = {name: ctx.get_parameter_source(name) for name in parameters}
    typed = {name: value for name, value in ctx.params.items() if getattr(sources[name], "name", "") == "COMMANDLINE"}
    if "columns" in mends:  # names and numbers exclude each other
        typed = {name: value for name, value in typed.items() if name not in ("columns", *_FLAG_OF.values())}
    program = ctx.find_root().info_name or "mspipe"
    words = ctx.command_path.removeprefix(program).split()
    # Arguments first, since the order of options and arguments is not kept.
    given = sorted((typed | flags).items(), key=lambda each: parameters[each[0]].param_type_name != "argument")
    for name, value in given:
        words += _words(parameters[name], value)
    return f"{'torchrun ... -m pyg_mspipe' if torchrun_started() else program} {shlex.join(words)}"


def reading_flags(mends: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of the flags for arguments of :func:`load_stream`, by the names of the flags.

    Args:
        mends: The arguments.
    """
    flags = {name: value for name, value in mends.items() if name != "columns"}
    if flags.get("separator") == "\t":
        flags["separator"] = "\\t"
    columns = mends.get("columns", {})
    by_number = isinstance(columns.get("src"), int)
    if by_number:
        flags["columns"] = ",".join(str(columns[field]) for field in ("src", "dst", "t"))
    for field, flag in _FLAG_OF.items():
        if field in columns and not (by_number and field in ("src", "dst", "t")):
            chosen = columns[field]
            flags[flag] = [str(each) for each in ([chosen] if isinstance(chosen, str | int) else chosen)]
    return flags


def _words(parameter: Any, value: Any) -> list[str]:
    """Returns what to type for the value of a parameter."""
    values = value if isinstance(value, list | tuple) else [value]
    texts = [str(int(each)) if isinstance(each, float) and each.is_integer() else str(each) for each in values]
    if parameter.param_type_name == "argument":
        return texts
    flag = max(parameter.opts, key=len)
    if value is True:
        return [flag]
    if value is False:
        return list(parameter.secondary_opts[:1])
    return [word for text in texts for word in (flag, text)]
