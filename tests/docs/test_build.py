"""The pages build without a warning, and the examples in them give what they say."""

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest

pytest.importorskip("furo", reason="needs the docs extra")
pytest.importorskip("myst_parser", reason="needs the docs extra")
pytest.importorskip("sphinx", reason="needs the docs extra")

DOCS = Path(__file__).parents[2] / "docs"


def _build(builder, out):
    # Read the Docs' variable would have the build ask the network for other projects' pages.
    environment = {name: value for name, value in os.environ.items() if name != "READTHEDOCS"}
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", builder, str(DOCS), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=out.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_pages_build_without_a_warning(tmp_path):
    out = _build("html", tmp_path / "html")
    # Made from the app at build time: of all commands, with their flags.
    page = (out / "cli.html").read_text()
    for text in ("mspipe data info", "--batch-size", "torchrun --nproc-per-node", "--host-memory"):
        assert text in page
    assert list(_dead_links(out)) == []
    # A public name is linked however a docstring names it.
    assert 'href="data.html#pyg_mspipe.check_stream"' in (out / "api" / "pipeline.html").read_text()


def _dead_links(root):
    """Links from page to page whose file or anchor is not there."""
    pages = {page: page.read_text() for page in root.rglob("*.html") if "_modules" not in page.parts}
    anchors = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in pages.items()}
    for page, text in pages.items():
        for path, anchor in re.findall(r'<a [^>]*?href="([^":#?]*)(?:#([^"]*))?"', text):
            target = (page.parent / unquote(path)).resolve() if path else page
            known = anchors.get(target)
            if not target.exists() or (anchor and known is not None and unescape(anchor) not in known):
                yield f"{page.relative_to(root)}: {path}#{anchor}"


def test_examples_in_pages_and_docstrings_give_what_they_say(tmp_path):
    report = (_build("doctest", tmp_path / "doctest") / "output.txt").read_text()
    assert "0 failures in tests" in report
    assert "0 tests" not in report
