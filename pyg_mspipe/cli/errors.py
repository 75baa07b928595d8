"""Errors as one line on the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from pyg_mspipe.data import StreamError
from pyg_mspipe.training import CheckpointError, ConfigError, Interrupted

BAD_INPUT = 2
INTERRUPTED = 130


class State:
    """What ``mspipe``'s own flags said."""

    debug = False


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns bad input into one line on the standard error and exit code 2; ``--debug`` shows the traceback."""
    try:
        yield
    except (StreamError, ConfigError, CheckpointError, OSError, MemoryError) as error:
        if State.debug:
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        typer.echo(f"error: {text}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    except Interrupted as interrupted:
        typer.echo(str(interrupted), err=True)
        raise typer.Exit(INTERRUPTED) from None
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        # A second Ctrl-C means now: neither exit handlers nor worker threads are waited for.
        sys.stderr.flush()
        os._exit(INTERRUPTED)
