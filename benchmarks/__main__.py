"""``python -m benchmarks list | run NAME ... | report | compare OLD NEW``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.harness.benchmark import ROOT
from benchmarks.harness.compare import compare as changes_between
from benchmarks.harness.compare import unlike
from benchmarks.harness.machine import describe_machine
from benchmarks.harness.results import RESULTS, newest_results, path_of, read_results, write_result
from benchmarks.registry import BENCHMARKS
from benchmarks.report.figures import draw_all
from benchmarks.report.pages import outdated

app = typer.Typer(
    help="Measures pyg_mspipe, on this machine.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)


@app.command("list")
def list_benchmarks() -> None:
    """Shows the benchmarks, how long they take, and which of them cannot run here."""
    table = Table("name", "minutes", "what it measures")
    for benchmark in BENCHMARKS.values():
        reason = benchmark.why_not()
        table.add_row(
            benchmark.name, f"{benchmark.minutes:g}", benchmark.about + (f" [not here: {reason}]" if reason else "")
        )
    Console().print(table, markup=False)


@app.command()
def run(
    names: Annotated[list[str] | None, typer.Argument(help="Which; see list.", show_default=False)] = None,
    all_: Annotated[bool, typer.Option("--all", help="All that can run on this machine.")] = False,
    missing: Annotated[bool, typer.Option("--missing", help="As --all, but for those that have a result.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Only see that they work; measures nothing.")] = False,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Another setting.")] = None,
    results: Annotated[Path, typer.Option(help="Where machines have their folders.")] = RESULTS,
) -> None:
    """Measures, prints tables, and writes each result into a file in this machine's folder."""
    names = list(names or [])
    if (all_ or missing) == bool(names):
        _refuse("give names of benchmarks, or --all" if not names else "give names or --all, not both")
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        _refuse(f"there is no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    if all_ or missing:
        machine = describe_machine()
        names = [name for name in BENCHMARKS if not (missing and path_of(name, machine, quick, results).exists())]
        if not names:
            typer.echo("every benchmark has a result; --all runs all again")
            return
    if len(names) > 1 or all_ or missing:
        _run_each(names, quick=quick, changes=changes or [], results=results)
        return
    benchmark, console = BENCHMARKS[names[0]], Console()
    reason = benchmark.why_not()
    if reason:
        _refuse(f"{benchmark.name} cannot run here: {reason}")
    pairs = [each.partition("=") for each in changes or []]
    try:
        result = benchmark.run(console, quick=quick, changes={name: value for name, _, value in pairs})
    except ValueError as error:
        if not pairs:
            raise
        _refuse(str(error))
    console.print(f"written to {write_result(result, results)}", soft_wrap=True)


@app.command()
def compare(
    old: Annotated[Path, typer.Argument(help="A result's file, or a machine's folder.")],
    new: Annotated[Path, typer.Argument(help="The same, later.")],
    least: Annotated[float, typer.Option(help="Differences below this part are not shown.")] = 0.05,
) -> None:
    """Shows what differs between two results, or two folders of them."""
    console = Console()
    try:
        before, after = read_results(old), read_results(new)
    except ValueError as error:
        _refuse(str(error))
    table = Table("benchmark", "number", "old", "new", "ratio")
    for name in sorted(before.keys() & after.keys()):
        for reason in unlike(before[name], after[name]):
            console.print(f"{name}: {reason}")
    for each in changes_between(before, after, least):
        table.add_row(each.benchmark, each.place, f"{each.old:g}", f"{each.new:g}", f"{each.ratio:.3f}")
    console.print(table, markup=False)


@app.command()
def report(
    machine: Annotated[str | None, typer.Option(help="Folder of the results (default: each benchmark's last).")] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a page is not up to date.")] = False,
) -> None:
    """Writes tables and figures into README and docs, from results."""
    try:
        results = read_results(RESULTS / machine) if machine else newest_results()
        pages = outdated(results)
    except ValueError as error:
        _refuse(str(error))
    for path in [] if check else draw_all(results):
        typer.echo(f"drawn: {path.relative_to(ROOT)}")
    for page, text in pages.items():
        typer.echo(f"{'out of date' if check else 'written'}: {page.relative_to(ROOT)}")
        if not check:
            page.write_text(text, encoding="utf-8")
    if check and pages:
        _refuse("run: python -m benchmarks report", code=1)


def _run_each(names: list[str], *, quick: bool, changes: list[str], results: Path) -> None:
    """Runs each benchmark in a process of its own, and says at the end which have failed."""
    failed = []
    for number, name in enumerate(names, start=1):
        reason = BENCHMARKS[name].why_not()
        typer.echo(f"[{number}/{len(names)}] {name}" + (f": skipped, {reason}" if reason else ""))
        if reason:
            continue
        command = [sys.executable, "-m", "benchmarks", "run", name, "--results", str(results)]
        command += ["--quick"] * quick + [f"--set={each}" for each in changes]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            failed.append(name)
    if failed:
        _refuse(f"failed: {', '.join(failed)}", code=1)


def _refuse(message: str, code: int = 2) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(code)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
