"""Reads Google-style docstrings, and says what a public name's docstring leaves out."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

_HEADER = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example|Examples):$", re.MULTILINE)
_ENTRY = re.compile(r"^    (?=\*{0,2}(\w+):)", re.MULTILINE)
# As in Int64[E], Float32[...], [n, d] and Float32[].
_SHAPE = re.compile(r"(\b(Int|Float|Bool|BFloat)\w*\[[^\]]*\]|\[[\w ,.+*/()-]+\])")
_SAYS_RESULT = re.compile(r"\b(returns?|yields?|gives?)\b", re.IGNORECASE)
_TENSOR = re.compile(r"\bTensor\b")
_NOTHING = ("None", "NoReturn", "Iterator[None]", "Generator[None, None, None]")


def sections(doc: str) -> dict[str, str]:
    """Returns the text of each section, that before the first under the empty name."""
    parts = _HEADER.split(inspect.cleandoc(doc))
    return {"": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))


def entries(doc: str) -> dict[str, str]:
    """Returns what Args and Attributes say, by name."""
    found = {}
    for section in ("Attributes", "Args"):
        _, *rest = _ENTRY.split(sections(doc).get(section, ""))
        found |= dict(zip(rest[::2], rest[1::2], strict=True))
    return found


def gaps(path: str, obj: object) -> Iterator[str]:
    """Yields a line for everything that the docstring of a public class or function, or of its methods, leaves out."""
    if inspect.isclass(obj):
        yield from _class_gaps(path, obj)
    elif inspect.isfunction(obj):
        yield from _function_gaps(path, obj, strict=True)


def _class_gaps(path: str, cls: type) -> Iterator[str]:
    doc = cls.__dict__.get("__doc__") or ""
    if not doc or doc.startswith(f"{cls.__name__}("):  # which a dataclass makes by itself
        yield f"{path} has no docstring"
        return
    if not issubclass(cls, BaseException) and not getattr(cls, "_is_protocol", False):
        # What a class takes as its base does may be told there.
        known = {}
        for each in reversed(cls.__mro__):
            known |= entries(each.__doc__ or "") if each.__module__.startswith("pyg_mspipe") else {}
        known |= _helped_fields(cls)
        yield from _parameter_gaps(path, inspect.signature(cls), doc, known, strict=True)
    for each in reversed(cls.__mro__):
        if each.__module__.startswith("pyg_mspipe"):
            yield from _member_gaps(path if each is cls else f"{each.__module__}.{each.__name__}", each)


def _helped_fields(cls: type) -> dict[str, str]:
    """Returns the fields of a dataclass that carry their own help text."""
    if not dataclasses.is_dataclass(cls):
        return {}
    return {field.name: field.metadata["help"] for field in dataclasses.fields(cls) if "help" in field.metadata}


def _member_gaps(path: str, cls: type) -> Iterator[str]:
    for name, member in vars(cls).items():
        if name.startswith("_") and name != "__call__":
            continue
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if isinstance(function, property):
            doc, returned = function.__doc__ or "", inspect.signature(function.fget).return_annotation  # type: ignore[arg-type]
            if not doc:
                yield f"{path}.{name} has no docstring"
            elif _is_tensor(returned) and not _SHAPE.search(doc):
                yield f"{path}.{name} gives no shape"
        elif inspect.isfunction(function):
            first = [each for each in cls.__mro__ if each.__module__.startswith("pyg_mspipe") and name in vars(each)][
                -1
            ]
            if first is cls:
                yield from _function_gaps(f"{path}.{name}", function, strict=False)
            elif not function.__doc__:
                # What it takes and gives is said where it was first declared; what is special to it is said here.
                yield f"{path}.{name} has no docstring"


def _function_gaps(path: str, function: Callable[..., Any], *, strict: bool) -> Iterator[str]:
    doc = function.__doc__ or ""
    if not doc:
        yield f"{path} has no docstring"
        return
    signature = inspect.signature(function)
    yield from _parameter_gaps(path, signature, doc, entries(doc), strict=strict)
    returned, parts = signature.return_annotation, sections(doc)
    text = returned if isinstance(returned, str) else getattr(returned, "__name__", str(returned))
    if returned is None or text in _NOTHING:
        return
    told = parts.get("Returns", "") + parts.get("Yields", "")
    if not told and not _SAYS_RESULT.search(parts[""].partition("\n\n")[0]):
        yield f"{path} does not say what it returns"
    if _is_tensor(returned) and not _SHAPE.search(parts[""] + told):
        yield f"{path} gives no shape of its result"


def _parameter_gaps(
    path: str, signature: inspect.Signature, doc: str, known: dict[str, str], *, strict: bool
) -> Iterator[str]:
    for name, parameter in signature.parameters.items():
        if name in ("self", "cls") or name.startswith("_") or _is_passed_on(parameter):
            continue
        # A method of one or two parameters may name them in a sentence instead.
        named = not strict and re.search(rf"`{name}\b", doc)
        if name not in known and not named:
            yield f"{path} does not document {name}"
        elif _is_tensor(parameter.annotation) and not _SHAPE.search(known.get(name, doc)):
            yield f"{path} gives no shape of {name}"


def _is_passed_on(parameter: inspect.Parameter) -> bool:
    """Whether it stands for whatever another function takes."""
    return parameter.kind.name.startswith("VAR_") and parameter.annotation in (Any, "Any", parameter.empty)


def _is_tensor(annotation: object) -> bool:
    text = annotation if isinstance(annotation, str) else str(annotation)
    # The tensors of a dictionary or a list have no one shape.
    return bool(_TENSOR.search(text)) and not any(kind in text for kind in ("Callable[", "dict[", "list["))
