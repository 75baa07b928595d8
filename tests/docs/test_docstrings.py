"""Every public name is documented: what it takes, what it gives, and the shapes of both."""

import re
import sys
from pathlib import Path

import pytest
from docstrings import gaps

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS / "_ext"))

from public_names import data_docstring, is_data, public_names  # noqa: E402

PUBLIC = public_names()


def test_every_public_name_says_what_it_takes_and_gives():
    # What classes inherit from each other is told once.
    missing = dict.fromkeys(line for path, obj in PUBLIC.items() for line in gaps(path, obj))
    assert not missing, "\n".join(missing)


def test_every_public_alias_is_explained():
    names = [path.rpartition(".")[2] for path, obj in PUBLIC.items() if is_data(obj)]
    assert [name for name in names if not data_docstring(name)] == []


def test_every_public_name_stands_once_in_the_reference():
    pages = "\n".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    documented = re.findall(r"^\.\. auto\w+:: (\S+)$", pages, re.MULTILINE)
    assert sorted(documented) == sorted(PUBLIC)


def _undocumented(x):
    return x


def _unshaped(x: "Tensor") -> "Tensor":  # noqa: F821
    """Returns it.

    Args:
        x: What it gets.
    """


def _silent(x: int) -> int:
    """Adds one.

    Args:
        x: A number.
    """


def _partial(x: int, y: int) -> int:
    """Returns ``x`` and ``y``.

    Args:
        x: A number.
    """


def _whole(x: "Tensor", y: int) -> "Tensor":  # noqa: F821
    """Returns Float32[n].

    Args:
        x: Float32[n], of which
            there is more to say.
        y: A number.
    """


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (_undocumented, ["it has no docstring"]),
        (_unshaped, ["it gives no shape of x", "it gives no shape of its result"]),
        (_silent, ["it does not say what it returns"]),
        (_partial, ["it does not document y"]),
        (_whole, []),
    ],
)
def test_the_check_finds_what_is_left_out(function, said):
    assert list(gaps("it", function)) == said
