"""Models by name, and classes from files of the user's own."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TypeVar, cast

from pyg_mspipe._choices import check_class_name
from pyg_mspipe.models.apan import APAN
from pyg_mspipe.models.dyrep import DyRep
from pyg_mspipe.models.jodie import JODIE
from pyg_mspipe.models.temporal_model import TemporalModel
from pyg_mspipe.models.tgat import TGAT
from pyg_mspipe.models.tgn import TGN

C = TypeVar("C")
MODELS: dict[str, type[TemporalModel]] = {"tgn": TGN, "jodie": JODIE, "dyrep": DyRep, "apan": APAN, "tgat": TGAT}
"""The built-in models, by the name that the settings have for them."""


def find_model(name: str) -> type[TemporalModel]:
    """Returns the class of a model.

    Args:
        name: A built-in model, or ``FILE.py:CLASS``.

    Raises:
        ValueError: If there is no such model.
    """
    return find_class(name, MODELS, TemporalModel, "model")


def find_class(name: str, known: Mapping[str, type[C]], base: type[object], what: str) -> type[C]:
    """Returns a class by name, or from a Python file, which is run.

    Args:
        name: One that is known, or ``FILE.py:CLASS``.
        known: Classes by name.
        base: What the class must be a subclass of.
        what: It is, for messages.

    Raises:
        ValueError: If there is no such class.
    """
    if name in known:
        return known[name]
    check_class_name(what, name, known)
    file, _, attribute = name.rpartition(":")
    found = getattr(_load(Path(file), what), attribute, None)
    if not (isinstance(found, type) and issubclass(found, base)):
        problem = "has no such class" if found is None else f"is no {base.__name__}"
        raise ValueError(f"{what} {name}: {attribute} {problem}; give the name of a subclass of {base.__name__}")
    return cast("type[C]", found)


def _load(file: Path, what: str) -> ModuleType:
    """Returns the module that a file holds, loaded once, under a name that is the same in every process."""
    if file.suffix != ".py" or not file.is_file():
        raise ValueError(f"{what}: {file} is not a Python file; give FILE.py:CLASS, the path of one that is there")
    name = f"mspipe_{file.stem}_{hashlib.blake2b(str(file.resolve()).encode(), digest_size=6).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"{what}: {file} does not run: {type(error).__name__}: {error}; mend it") from error
    return module
