"""Flags and TOML keys of ``mspipe train``, made from the settings in :class:`TrainConfig`."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from pyg_mspipe.cli.flags import with_flags
from pyg_mspipe.training import ConfigError, TrainConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Returns ``command(..., settings)`` with a flag for each setting of :class:`TrainConfig` instead."""
    hints = get_type_hints(TrainConfig)
    flags: dict[str, tuple[Any, Any]] = {}
    for setting in fields(TrainConfig):
        assert setting.default is not MISSING
        option = typer.Option(help=setting.metadata["help"], rich_help_panel=setting.metadata["group"])
        flags[setting.name] = Annotated[hints[setting.name], option], setting.default
    return with_flags(command, "settings", flags)


def read_toml(path: Path, known: Mapping[str, object]) -> dict[str, Any]:
    """Returns the keys of a TOML file.

    Args:
        path: The file.
        known: The keys that the file may have, each with the type that the command's own flag declares, or None for a
            setting, whose type :class:`TrainConfig` checks.

    Raises:
        ConfigError: If the file cannot be read, or has an unknown key or a value of another type.
    """
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give the path of a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from error
    values = {key.replace("-", "_"): value for key, value in values.items()}
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            guess = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError(f"{path}: no setting is named {key!r}; {guess}known are {', '.join(known)}")
        for kind in get_args(known[key]) or (known[key],):
            if kind in _KINDS and not _KINDS[kind][0](value):
                raise ConfigError(f"{path}: {key} is {value!r}; give {_KINDS[kind][1]}")
    return values


def _is_text(value: object) -> bool:
    return isinstance(value, str)


# For each type of a flag: the check of a value in a TOML file, and what to give instead if the check fails.
_KINDS: dict[object, tuple[Callable[[Any], bool], str]] = {
    str: (_is_text, "a text"),
    Path: (_is_text, "a path"),
    bool: (lambda value: isinstance(value, bool), "true or false"),
    float: (lambda value: type(value) in (int, float), "a number"),
    list[str]: (lambda value: all(map(_is_text, value if isinstance(value, list) else [value])), "texts"),
}
