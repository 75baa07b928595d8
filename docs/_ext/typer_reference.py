"""The directive `typer-reference`: a section with usage, help and option tables for each command of a Typer app."""

import importlib
import inspect
import re
from itertools import groupby
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from typer.main import get_command

# In a sentence; as plain text its two dashes would be made one.
_FLAG = re.compile(r"(--[a-z][a-z-]*)")
_NOTE = re.compile(r"\s*\[(required|default: .*)\]$", re.DOTALL)


class TyperReference(SphinxDirective):
    """Writes the sections of an app given as `package.module:attribute`."""

    required_arguments = 1

    def run(self):
        module, _, attribute = self.arguments[0].partition(":")
        app = getattr(importlib.import_module(module), attribute)
        for source in Path(inspect.getsourcefile(importlib.import_module(module))).parent.glob("*.py"):
            self.env.note_dependency(str(source))
        command = get_command(app)
        return list(self.sections(command, command.name, None))

    def sections(self, command, name, parent):
        """Yields a section for the command, and for each below it."""
        context = command.context_class(command, info_name=name, parent=parent)
        path = context.command_path
        label = path.replace(" ", "-")
        section = nodes.section(ids=[label], names=[label])
        section += nodes.title("", "", nodes.literal(text=path))
        self.state.document.note_explicit_target(section)
        text, _, examples = inspect.cleandoc(command.help or "").partition("Examples:")
        for paragraph in filter(None, text.split("\n\n")):
            section += _sentence(" ".join(paragraph.split()))
        section += _shell(" ".join([path, *command.collect_usage_pieces(context)]))
        if examples:
            section += nodes.paragraph(text="Examples:")
            section += _shell(inspect.cleandoc(examples))
        shown = [each for each in command.get_params(context) if each.get_help_record(context)]
        arguments = [each for each in shown if each.param_type_name == "argument"]
        if arguments:
            section += _table("Argument", arguments, context)
        options = [each for each in shown if each.param_type_name == "option"]
        for panel, members in groupby(sorted(options, key=lambda each: _order(options, each)), key=_panel):
            section += nodes.rubric("", panel)
            section += _table("Option", list(members), context)
        yield section
        for key, below in getattr(command, "commands", {}).items():
            yield from self.sections(below, key, context)


def _panel(param):
    return param.rich_help_panel or "Options"


def _order(options, param):
    """Keeps panels, and options within one, in the order of their first appearance."""
    return [_panel(each) for each in options].index(_panel(param))


def _sentence(text):
    parts = _FLAG.split(text)
    found = [nodes.literal(text=part) if i % 2 else nodes.Text(part) for i, part in enumerate(parts) if part]
    return nodes.paragraph("", "", *found)


def _shell(text):
    return nodes.literal_block(text, text, language="text")


def _table(kind, params, context):
    table = nodes.table(classes=["command-options"])
    group = nodes.tgroup(cols=3)
    table += group
    for width in (25, 55, 20):
        group += nodes.colspec(colwidth=width)
    group += nodes.thead("", _row(*(nodes.paragraph(text=title) for title in (kind, "Meaning", "Default"))))
    body = nodes.tbody()
    group += body
    for param in params:
        names, meaning = param.get_help_record(context)
        flags, _, value = names.partition(" <")
        name = nodes.paragraph("", "", nodes.literal(text=flags))
        if value:
            name += [nodes.Text(" "), nodes.literal(text=f"<{value}", classes=["value"])]
        note = _NOTE.search(meaning)
        default = nodes.paragraph()
        if note:
            what = note[1].removeprefix("default: ")
            default += nodes.Text(what) if what == "required" else nodes.literal(text=what)
        body += _row(name, _sentence(_NOTE.sub("", meaning)), default)
    return table


def _row(*cells):
    row = nodes.row()
    for cell in cells:
        row += nodes.entry("", cell)
    return row


def setup(app):
    """Adds the directive."""
    app.add_directive("typer-reference", TyperReference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
