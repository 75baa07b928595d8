"""The ``mspipe`` command."""

from __future__ import annotations

from typing import Annotated

import typer

from pyg_mspipe._version import __version__
from pyg_mspipe.cli import data as data_commands
from pyg_mspipe.cli import runs
from pyg_mspipe.cli.baseline import SETTINGS, baseline
from pyg_mspipe.cli.errors import State
from pyg_mspipe.cli.evaluate import evaluate
from pyg_mspipe.cli.plan import plan
from pyg_mspipe.cli.settings import with_settings
from pyg_mspipe.cli.simulate import simulate
from pyg_mspipe.cli.stream_options import with_reading
from pyg_mspipe.cli.timeline import timeline
from pyg_mspipe.cli.usage import OneLineGroup

app = typer.Typer(
    name="mspipe",
    cls=OneLineGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train", no_args_is_help=True)(with_settings(with_reading(runs.train)))
app.command("resume", no_args_is_help=True)(runs.resume)
app.command("evaluate", no_args_is_help=True)(evaluate)
app.command("baseline", no_args_is_help=True)(with_settings(with_reading(baseline), *SETTINGS))
app.command("plan", no_args_is_help=True)(plan)
app.command("simulate", no_args_is_help=True)(simulate)
app.command("timeline", no_args_is_help=True)(timeline)
app.add_typer(data_commands.app, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pyg_mspipe {__version__}")
        raise typer.Exit


@app.callback()
def main(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Train temporal graph networks on streams of events.

    Examples:
        mspipe train synthetic --epochs 3
        mspipe train clicks.csv --src user --dst item --time ts --bipartite --out runs/clicks
        mspipe resume runs/clicks
        mspipe evaluate runs/clicks
        mspipe data info clicks.csv
        mspipe baseline clicks.csv
        mspipe plan --auto clicks.csv --world 4
    """
    State.debug = debug
