"""What is typed wrong is told in one line, as every other error is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from pyg_mspipe.cli.errors import BAD_INPUT

_UsageError: Any = typer.BadParameter.__mro__[1]  # Typer has no public name for it


class OneLineGroup(TyperGroup):
    """Commands whose wrong flags, values and names are told in one line; without any arguments they show their help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Returns the flags of the group, false where they are not given."""
        # For None, the default of --help and --install-completion, Typer would load Pydantic, which takes 0.1 s.
        flags = super().get_params(ctx)
        for flag in flags:
            if flag.default is None and getattr(flag, "is_flag", False):
                flag.default = False
        return flags

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs a command, and ends the process unless ``standalone_mode`` is false."""
        try:
            code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except _UsageError as error:
            if not standalone_mode:
                raise
            if type(error).__name__ != "NoArgsIsHelpError":
                typer.echo(f"error: {_in_one_line(error)}", err=True)
            elif error.message:  # with Rich, it has shown the help already
                error.show()
            code = BAD_INPUT
        if standalone_mode:
            sys.exit(code)
        return code


def _in_one_line(error: Any) -> str:
    """Returns what is wrong, and where to read what would be right."""
    text = " ".join(error.format_message().split()).replace("Value error, ", "").rstrip(".")
    command = error.ctx.command_path if error.ctx is not None else "mspipe COMMAND"
    return f"{text[0].lower()}{text[1:]}{'' if text.endswith('?') else ';'} see: {command} --help"
