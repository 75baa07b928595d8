"""The public names of the package: what the API pages document, what links may name, and what the tests check."""

import ast
import importlib
import inspect
import itertools
import pkgutil

import pyg_mspipe

SUBPACKAGES = (
    "data",
    "graph",
    "loader",
    "memory",
    "memory.mitigation",
    "models",
    "pipeline",
    "tasks",
    "tasks.protocols",
    "timeline",
    "training",
    "distributed",
)


def public_names():
    """Returns each public name by the shortest path that users import it by, with its object."""
    found = {name: f"pyg_mspipe.{name}" for name in pyg_mspipe.__all__}
    for sub in SUBPACKAGES:
        module = importlib.import_module(f"pyg_mspipe.{sub}")
        for name in module.__all__:
            found.setdefault(name, f"pyg_mspipe.{sub}.{name}")
    return {path: getattr(importlib.import_module(path.rpartition(".")[0]), name) for name, path in found.items()}


def is_data(obj):
    """Returns whether a name is neither a class nor a function: a type alias, or the version."""
    return not (inspect.isclass(obj) or inspect.isfunction(obj))


def data_docstring(name):
    """Returns the string that follows the assignment of a module's variable, in whichever module that is."""
    for info in pkgutil.walk_packages(pyg_mspipe.__path__, "pyg_mspipe."):
        if info.name.endswith("__main__"):
            continue
        body = ast.parse(inspect.getsource(importlib.import_module(info.name))).body
        for statement, after in itertools.pairwise(body):
            targets = getattr(statement, "targets", [getattr(statement, "target", None)])
            assigned = [getattr(each, "id", "") for each in targets] == [name]
            if assigned and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                return inspect.cleandoc(after.value.value)
    return ""
