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
from pyg_mspipe.data.atomic_write import refuse_devices
from pyg_mspipe.training.config import ConfigError, TrainConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def with_settings(command: Callable[..., None], *names: str) -> Callable[..., None]:
    """Returns ``command(..., settings)`` with a flag for each setting of :class:`TrainConfig` instead.

    Args:
        command: A function with a parameter that is named ``settings``.
        *names: The settings that get a flag; by default all.
    """
    hints = get_type_hints(TrainConfig)
    flags: dict[str, tuple[Any, Any]] = {}
    for setting in fields(TrainConfig):
        if names and setting.name not in names:
            continue
        assert setting.default is not MISSING
        option = typer.Option(help=setting.metadata["help"], rich_help_panel=setting.metadata["group"])
        flags[setting.name] = Annotated[hints[setting.name], option], setting.default
    return with_flags(command, "settings", flags)


def tables_of_settings() -> dict[str, str]:
    """Returns the TOML table of each setting, by the setting's name."""
    return {setting.name: setting.metadata["group"].lower() for setting in fields(TrainConfig)}


def read_toml(path: Path, tables: Mapping[str, str], kinds: Mapping[str, object]) -> dict[str, Any]:
    """Returns the values in the tables of a TOML file, by key.

    Args:
        path: The file.
        tables: The keys that the file may have, each with its table.
        kinds: The types of the command's own flags, by key; :class:`TrainConfig` checks those of the settings.

    Raises:
        ConfigError: If the file cannot be read, or has an unknown key, a key in another table or a value of another
            type.
    """
    refuse_devices(path)
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give the path of a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from error
    values: dict[str, Any] = {}
    for outer, inner in content.items():
        if isinstance(inner, dict) and outer not in tables.values():
            known = ", ".join(dict.fromkeys(tables.values()))
            raise ConfigError(f"{path}: no table is named [{outer}]; known are {known}")
        for name, value in inner.items() if isinstance(inner, dict) else [(outer, inner)]:
            key = name.replace("-", "_")
            _check(path, outer if isinstance(inner, dict) else "", key, value, tables, kinds.get(key))
            values[key] = value
    return values


def _check(path: Path, table: str, key: str, value: object, tables: Mapping[str, str], kind: object) -> None:
    """Refuses a key that is not known, stands in another table than its own, or has a value of another type."""
    if key not in tables:
        near = difflib.get_close_matches(key, tables, n=1)
        guess = f"did you mean {near[0]!r} in [{tables[near[0]]}]? " if near else ""
        raise ConfigError(f"{path}: no setting is named {key!r}; {guess}known are {', '.join(tables)}")
    if tables[key] != table:
        raise ConfigError(
            f"{path}: {key} stands {f'in [{table}]' if table else 'in no table'}; put it in [{tables[key]}]"
        )
    for each in get_args(kind) or (kind,):
        if each in _KINDS and not _KINDS[each][0](value):
            raise ConfigError(f"{path}: {key} is {value!r}; give {_KINDS[each][1]}")


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
