"""Packages hand on their names as if they had loaded all of them."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pyg_mspipe"
LAZY = {
    ".".join(path.parent.relative_to(PACKAGE.parent).parts): path
    for path in sorted(PACKAGE.rglob("__init__.py"))
    if "import lazy\n" in path.read_text()
}


def imported(package, body):
    """The names that statements import, by the module in the package that they come from."""
    statements = [each for each in body if isinstance(each, ast.ImportFrom)]
    return {each.module.removeprefix(f"{package}."): [alias.name for alias in each.names] for each in statements}


@pytest.mark.parametrize("package", LAZY)
def test_type_checkers_see_what_is_there_when_it_is_asked_for(package):
    body = ast.parse(LAZY[package].read_text()).body
    branch = next(each for each in body if isinstance(each, ast.If))
    call = next(each for each in ast.walk(branch.orelse[0]) if isinstance(each, ast.Call))
    homes = ast.literal_eval(call.args[1])
    module = importlib.import_module(package)
    names = [name for found in homes.values() for name in found]
    assert homes == imported(package, branch.body)
    assert sorted(names) == sorted({*module.__all__} - {"__version__"})
    assert {*module.__all__} <= {*dir(module)}
    for home, found in homes.items():
        inner = importlib.import_module(f"{package}.{home}")
        assert all(getattr(module, name) is getattr(inner, name) for name in found)


@pytest.mark.parametrize("package", LAZY)
def test_no_name_is_that_of_a_module_beside_it_which_would_take_its_place(package):
    beside = {path.stem for path in LAZY[package].parent.iterdir()}
    assert beside.isdisjoint(importlib.import_module(package).__all__)


def test_all_names_come_at_once_too():
    names = {}
    exec("from pyg_mspipe import *", names)
    assert {"Trainer", "synthetic", "__version__"} <= names.keys()


ASKED = """
import sys
import pyg_mspipe
assert "torch" not in sys.modules
assert pyg_mspipe.data.errors.StreamError is pyg_mspipe.StreamError  # a module is found as its names are
assert pyg_mspipe.training.config.TrainConfig is pyg_mspipe.TrainConfig
assert "torch" not in sys.modules
for name in ("nothing", "_nothing"):
    assert not hasattr(pyg_mspipe, name)
try:
    from pyg_mspipe.training import Trainre
except ImportError as error:
    print(error.args[0].partition(" (")[0])
"""


def test_an_import_loads_what_is_asked_for_and_a_wrong_name_is_told():
    done = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, check=True)
    assert done.stdout == "cannot import name 'Trainre' from 'pyg_mspipe.training'\n"
