"""What autodoc and links need to know of the package's public names."""

import dataclasses

from docutils import nodes
from public_names import data_docstring, public_names
from sphinx.domains.python import PyXRefRole
from sphinx.util.nodes import make_refnode

# Where other projects document what autodoc names by the module of its definition.
_ELSEWHERE = {
    "torch.nn.modules.module.Module": "torch.nn.Module",
    "torch_geometric.data.temporal.TemporalData": "torch_geometric.data.TemporalData",
}


def _add_docstrings(app, what, name, obj, options, lines):
    """Gives autodoc what it does not find: docstrings of imported variables, and of fields that carry a help text."""
    if what == "data" and name.startswith("pyg_mspipe."):
        lines[:] = data_docstring(name.rpartition(".")[2]).splitlines()
    if what in ("attribute", "data", "property"):
        # An empty comment; else napoleon takes what stands before a colon in the first line for a type.
        lines[:0] = ["..", ""]
    if what == "class" and dataclasses.is_dataclass(obj):
        helped = [field for field in dataclasses.fields(obj) if "help" in field.metadata]
        lines += [f":param {field.name}: {field.metadata['help']} Default: ``{field.default!r}``." for field in helped]


def _backticks(name, rawtext, text, lineno, inliner, options=None, content=()):
    """What stands in single backticks is code; where it is a public name, a link too."""
    if text in inliner.document.settings.env.config.public_paths:
        return PyXRefRole()("py:obj", rawtext, text, lineno, inliner, options or {}, content)
    return [nodes.literal(rawtext, text)], []


def _resolve(app, env, node, contnode):
    """Links a public name, or a member of one, from whichever way of naming it."""
    if node.get("refdomain") != "py":
        return None
    node["reftarget"] = _ELSEWHERE.get(node["reftarget"], node["reftarget"])
    parts = node["reftarget"].split(".")
    objects = env.domains.python_domain.objects
    for start, part in enumerate(parts):
        if start and parts[0] != "pyg_mspipe":
            return None
        target = ".".join([app.config.public_paths.get(part, ""), *parts[start + 1 :]])
        if target in objects:
            found = objects[target]
            return make_refnode(app.builder, node["refdoc"], found.docname, found.node_id, contnode, target)
    return None


def setup(app):
    """Connects the extension."""
    app.add_config_value("public_paths", {path.rpartition(".")[2]: path for path in public_names()}, "env")
    app.add_role("backticks", _backticks)
    # Before napoleon, which reads Google style.
    app.connect("autodoc-process-docstring", _add_docstrings, priority=400)
    # Before intersphinx.
    app.connect("missing-reference", _resolve, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
