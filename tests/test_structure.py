"""The package's structure: imports go one way, files and classes stay small. Only known exceptions are let through."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pyg_mspipe"

LAYERS = (
    "cli",
    "training",
    "distributed",
    "timeline",
    "tasks",
    "models",
    "loader",
    "pipeline",
    "memory",
    "graph",
    "data",
)
"""From the top down: a layer imports from itself and from those after it."""

BESIDE = ("_choices", "_lazy", "_loading", "_version")
"""Files beside the layers that all of them may import; they import none."""

MOST_LINES = 300
MOST_METHODS = 20

# What is still to be mended. Whoever mends one removes it here, and none is added.
KNOWN: dict[str, set[str]] = {
    "imports": set(),
    "lines": set(),
    "methods": set(),
}


def imported(source, path):
    """Returns the layers of the package that a file imports from, wherever in it; '' is the package itself."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            inner = "/".join(path.split("/")[: -node.level]).replace("/", ".")
            base = ".".join(part for part in ("pyg_mspipe", inner, node.module or "") if part)
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        parts = [name.split(".") for name in names]
        found |= {next(iter(rest), "") for package, *rest in parts if package == "pyg_mspipe"}
    return {name if name in LAYERS else "" for name in found if name not in BESIDE}


def upward(source, path):
    """Returns the imports of a file that go up the list, or to the package itself, which imports all layers."""
    layer = path.split("/")[0].removesuffix(".py")
    if layer not in (*LAYERS, *BESIDE):  # a file of the package itself
        return []
    allowed = LAYERS[LAYERS.index(layer) :] if layer in LAYERS else ()
    return [f"{path} imports pyg_mspipe{'.' * bool(name)}{name}" for name in imported(source, path) - set(allowed)]


def too_long(source, path):
    return [path] if len(source.splitlines()) > MOST_LINES else []


def too_many_methods(source, path):
    classes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
    methods = {
        each.name: {entry.name for entry in each.body if isinstance(entry, ast.FunctionDef | ast.AsyncFunctionDef)}
        for each in classes
    }
    return [f"{path}: {name}" for name, own in methods.items() if len(own) > MOST_METHODS]


@pytest.mark.parametrize(
    ("kind", "violations"), [("imports", upward), ("lines", too_long), ("methods", too_many_methods)]
)
def test_the_package_has_the_known_exceptions_and_no_others(kind, violations):
    files = {str(path.relative_to(PACKAGE).as_posix()): path.read_text() for path in PACKAGE.rglob("*.py")}
    found = {each for path, source in files.items() for each in violations(source, path)}
    assert sorted(found - KNOWN[kind]) == [], "new"
    assert sorted(KNOWN[kind] - found) == [], "mended: remove them from KNOWN"


def test_each_folder_of_the_package_is_a_layer():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders <= set(LAYERS)


@pytest.mark.parametrize(
    ("line", "above"),
    [
        ("import pyg_mspipe.memory.rows", "memory"),
        ("from pyg_mspipe.training import Trainer", "training"),
        ("from pyg_mspipe.training.config import TrainConfig", "training"),
        ("from pyg_mspipe import memory", "memory"),
        ("from pyg_mspipe import Trainer", ""),
        ("import pyg_mspipe", ""),
        ("from .. import memory", "memory"),
        ("from ..memory import TGNMemory", "memory"),
        ("from pyg_mspipe.data import synthetic", None),
        ("from pyg_mspipe.graph.hashing import mix", None),
        ("from .hashing import mix", None),
        ("from pyg_mspipe._version import __version__", None),
        ("from pyg_mspipe._choices import CutOff", None),
        ("import torch, memory", None),
    ],
)
@pytest.mark.parametrize("within", ["", "def function():\n    ", "if TYPE_CHECKING:\n    "])
def test_an_import_up_the_list_is_found_wherever_it_stands(line, above, within):
    found = upward(within + line, "graph/segment.py")
    name = f"pyg_mspipe.{above}" if above else "pyg_mspipe"
    assert found == ([] if above is None else [f"graph/segment.py imports {name}"])


def test_a_property_with_a_setter_is_one_method():
    text = "class A:\n" + "".join(f"    def f{n}(self): ...\n" for n in range(20))
    assert too_many_methods(text + "    def f0(self, value): ...\n", "a.py") == []
    assert too_many_methods(text + "    async def g(self): ...\n", "a.py") == ["a.py: A"]
