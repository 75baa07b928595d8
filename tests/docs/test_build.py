"""The pages build without a warning, and the examples in them give what they say."""

import re
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest
from processes import Forked

pytest.importorskip("furo", reason="needs the docs extra")
pytest.importorskip("myst_parser", reason="needs the docs extra")
pytest.importorskip("sphinx", reason="needs the docs extra")

DOCS = Path(__file__).parents[2] / "docs"


# Both builders in one process read the pages once.
BUILDS = """
import sys
from sphinx.cmd.build import main
for builder in ("html", "doctest"):
    code = main(["-W", "--keep-going", "-q", "-d", "read", "-b", builder, sys.argv[1], builder])
    if code:
        sys.exit(code)
"""


def test_pages_build_without_a_warning_and_the_examples_in_them_give_what_they_say(tmp_path):
    # Read the Docs' variable would have the build ask the network for other projects' pages.
    process = Forked("-c", BUILDS, DOCS, cwd=tmp_path, env={"READTHEDOCS": ""})
    said = "".join(process.communicate())
    assert process.returncode == 0, said
    # Made from the app at build time: of all commands, with their flags.
    page = (tmp_path / "html" / "cli.html").read_text()
    for text in ("mspipe data info", "--batch-size", "torchrun --nproc-per-node", "--host-memory"):
        assert text in page
    assert list(_dead_links(tmp_path / "html")) == []
    # A public name is linked however a docstring names it.
    assert 'href="data.html#pyg_mspipe.check_stream"' in (tmp_path / "html" / "api" / "pipeline.html").read_text()
    report = (tmp_path / "doctest" / "output.txt").read_text()
    assert "0 failures in tests" in report
    assert not re.search(r"\b0 tests", report)


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
