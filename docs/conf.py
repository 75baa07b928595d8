"""Sphinx configuration: `make docs`, or `sphinx-build -W docs docs/_build/html`."""

import os
import re
import sys
from pathlib import Path

_HERE = Path(__file__).parent
sys.path.insert(0, str(_HERE / "_ext"))

project = "pyg_mspipe"
author = "pyg_mspipe contributors"
project_copyright = author
release = re.search(r'__version__ = "(.+)"', (_HERE.parent / "pyg_mspipe" / "_version.py").read_text())[1]
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.doctest",
    "sphinx.ext.viewcode",
    "sphinx.ext.mathjax",
    "public_links",
    "typer_reference",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_default_options = {
    "members": True,
    "special-members": "__call__, __iter__, __len__",
}
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
maximum_signature_line_length = 80
python_use_unqualified_type_names = True
default_role = "backticks"
smartquotes_action = "De"  # dashes and ellipses; quotes stay as Python has them

napoleon_numpy_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]

# Elsewhere a build needs no network.
if os.environ.get("READTHEDOCS"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "torch_geometric": ("https://pytorch-geometric.readthedocs.io/en/latest", None),
    }

html_theme = "furo"
html_title = f"pyg_mspipe {release}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
# Both pass the contrast that text needs (4.5), on a light page and on a dark one.
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1d5fa8", "color-brand-content": "#1d5fa8"},
    "dark_css_variables": {"color-brand-primary": "#7fb4f0", "color-brand-content": "#7fb4f0"},
}
pygments_style = "friendly"
pygments_dark_style = "monokai"
