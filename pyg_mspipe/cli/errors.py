"""Errors as one line on the terminal."""

from __future__ import annotations

import ast
import errno
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from pyg_mspipe.cli.mending import mended_command, reading_flags
from pyg_mspipe.data.errors import StreamError
from pyg_mspipe.distributed.plan import PlanError
from pyg_mspipe.distributed.torchrun import torchrun_started
from pyg_mspipe.training.config import ConfigError
from pyg_mspipe.training.interrupt import Interrupted

BAD_INPUT = 2
FAILED = 1
INTERRUPTED = 130

# Parts of torch's messages if memory is short; on a CPU, torch has no error class for it.
_SHORT_OF_MEMORY = ("allocate", "bad_alloc", "out of memory", "Storage size calculation overflowed")


class State:
    """The values of the flags that come before the command."""

    debug = False


@contextmanager
def one_line_errors(ctx: typer.Context | None = None) -> Iterator[None]:
    """Turns bad input into one line on the standard error and exit code 2; ``--debug`` shows the traceback.

    Of a stream all problems are told, a line for each, and below them the command that mends it, where flags do.

    Args:
        ctx: The context of the command, if it reads a stream as its flags say.
    """
    try:
        yield
    except typer.Exit:
        raise
    except StreamError as error:
        if State.debug:
            raise
        tell_problems(error, "error", ctx)
        _exit(BAD_INPUT)
    except (ConfigError, PlanError) as error:
        _fail(error, str(error))
    except OSError as error:
        _fail(error, _with_mend(error))
    except Interrupted as interrupted:
        if str(interrupted):
            typer.echo(str(interrupted), err=True)
        _exit(INTERRUPTED)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        # A second Ctrl-C ends the process at once, without exit handlers or waiting for threads.
        _exit_now(INTERRUPTED)
    except _bad_input() as error:
        _fail(error, str(error))
    except _failures() as error:
        _fail(error, str(error), FAILED)
    except _diverged() as error:
        _fail(error, str(error))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(sign in str(error) for sign in _SHORT_OF_MEMORY):
            raise
        mend = "lower the sizes, or number ids that lie far apart with --relabel: each up to the largest takes a row"
        _fail(error, f"memory does not suffice ({error}); {mend}")


# Python asks for these classes only where none of those above fits, and so once their modules are loaded.
def _bad_input() -> tuple[type[Exception], ...]:
    from pyg_mspipe.distributed import DisagreementError
    from pyg_mspipe.training import CheckpointError

    return DisagreementError, CheckpointError


def _failures() -> tuple[type[Exception], ...]:
    from pyg_mspipe.distributed import SharedMemoryError, TrainerLostError

    return SharedMemoryError, TrainerLostError


def _diverged() -> tuple[type[Exception], ...]:
    from pyg_mspipe.tasks import DivergedError

    return (DivergedError,)


_MENDS = {
    errno.ENOSPC: "free some there; what was complete before is kept",
    errno.EDQUOT: "free some there; what was complete before is kept",
    errno.EACCES: "make it accessible, or give another place",
    errno.EPERM: "make it accessible, or give another place",
    errno.EROFS: "give another place",
    errno.ENOENT: "its folder may have been removed; make it again, or give another place",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: "raise the limit of open files: ulimit -n",
}


def _with_mend(error: OSError) -> str:
    """Returns what went wrong with which file, and what to do; the system says the first alone."""
    if error.errno is None:
        return str(error)
    file = "" if error.filename is None else f"{error.filename}: "
    mend = _MENDS.get(error.errno)
    return f"{file}{error.strerror}" + ("" if mend is None else f"; {mend}")


def tell_problems(error: StreamError, mark: str, ctx: typer.Context | None) -> None:
    """Prints what is wrong with a stream, a line for each problem, and the command that mends it.

    Args:
        error: Names the problems.
        mark: What each line begins with.
        ctx: The context of the command, if it reads a stream as its flags say.
    """
    for problem in error.problems or (type(error).__name__,):
        typer.echo(f"{mark}: {in_flags(' '.join(problem.split()))}", err=True)
    command = mended_command(ctx, error.mends)
    if command is not None:
        typer.echo(f"to mend it: {command}", err=True)


def in_flags(text: str) -> str:
    """Returns a message with the names of arguments and settings spelled as flags, except within paths."""
    text = re.sub(r"pass columns=\{([^}]*)\}", _columns_in_flags, text)
    text = re.sub(r"\b(sort|relabel|bipartite)=True\b", r"--\1", text)
    text = re.sub(r"\b(separator|time_format)=('[^']*')", lambda found: f"{_flag(found[1])} {found[2]}", text)
    text = re.sub(r"(?<=: leave out )[\w, ]+(?=, which only)", _options_in_flags, text)
    text = re.sub(
        r"(?<![\w/.'-])((val|test)_(ratio|time)|checkpoint_every|time_format)(?![\w/.'-])",
        lambda name: _flag(name[0]),
        text,
    )
    return re.sub(r"\btime_scale=(\d+)", r"--time-scale \1", text).replace(" to load_stream", "")


def _columns_in_flags(mapping: re.Match[str]) -> str:
    try:
        columns = ast.literal_eval(f"{{{mapping[1]}}}")
    except (ValueError, SyntaxError):  # such as names with braces
        return mapping[0]
    flags = reading_flags({"columns": columns})
    words = [(_flag(name), each) for name, value in flags.items() for each in ([value] if name == "columns" else value)]
    return "give " + " ".join(f"{flag} {'COLUMN' if each == '...' else shlex.quote(each)}" for flag, each in words)


def _options_in_flags(options: re.Match[str]) -> str:
    columns = "--src, --dst, --time, --msg, --label and --columns"
    return ", ".join(columns if each == "columns" else _flag(each) for each in options[0].split(", "))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _fail(error: Exception, text: str, code: int = BAD_INPUT) -> NoReturn:
    if State.debug:
        raise error
    typer.echo(f"error: {in_flags(' '.join(text.split())) or type(error).__name__}", err=True)
    _exit(code)


def _exit(code: int) -> NoReturn:
    if torchrun_started():
        # When torch closes its connections to the other processes, it may wait for processes that are gone.
        _exit_now(code)
    raise typer.Exit(code) from None


def _exit_now(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
