"""``mspipe plan``: the schedule of a plan, all plans for some trainers, or a plan chosen for a stream."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pyg_mspipe._loading import loading
from pyg_mspipe.cli import stream_options as options
from pyg_mspipe.cli.errors import one_line_errors
from pyg_mspipe.distributed.plan import ParallelPlan, PlanError, Seat, shapes, spread
from pyg_mspipe.training.config import ConfigError, TrainConfig

if TYPE_CHECKING:
    from pyg_mspipe.distributed import PlanChoice, SweepSchedule

_STYLES = ("black on bright_cyan", "black on bright_yellow", "black on bright_green", "black on bright_magenta")
_MOST_TRAINERS = 4096
_ROWS_SHOWN = 64
_GIB = 2**30
_LABEL = 6
_STREAM = "Choosing for a stream"


@options.with_reading
def plan(
    ctx: typer.Context,
    reading: dict[str, Any],
    shape: Annotated[str | None, typer.Argument(help="A plan i x j x k, such as 1x2x2.", show_default=False)] = None,
    world: Annotated[int | None, typer.Option(help="Number of trainers.", show_default=False)] = None,
    hosts: Annotated[int, typer.Option(help="Hosts, each with the same number of trainers.")] = 1,
    epochs: Annotated[int, typer.Option(help="Epochs to train.")] = TrainConfig.epochs,
    batches: Annotated[
        int | None,
        typer.Option(help="Batches of the shown sweep. (default: 8, or the number of groups)", show_default=False),
    ] = None,
    auto: Annotated[
        str | None,
        typer.Option(
            metavar="STREAM", help="Choose a plan for this stream.", show_default=False, rich_help_panel=_STREAM
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(help="Events that one trainer takes at a time.", rich_help_panel=_STREAM)
    ] = TrainConfig.batch_size,
    max_loss: Annotated[
        float,
        typer.Option(
            help="Largest loss of a larger batch: the share of events that begin to miss a dependency.",
            rich_help_panel=_STREAM,
        ),
    ] = 0.2,
    memory_dim: Annotated[
        int, typer.Option(help="Width of the node memory.", rich_help_panel=_STREAM)
    ] = TrainConfig.memory_dim,
    host_memory: Annotated[
        float | None,
        typer.Option(
            help="GiB of each host for node memory. (default: half of this host's free memory, at most /dev/shm)",
            show_default=False,
            rich_help_panel=_STREAM,
        ),
    ] = None,
) -> None:
    """Show a plan and its schedule, or all plans for some number of trainers, or choose a plan for a stream.

    i trainers share a batch, j take turns at the batches of a memory group, and k memory groups train different times
    of the stream at once.

    Examples:
        mspipe plan 1x2x2
        mspipe plan --world 8 --hosts 2
        mspipe plan --auto clicks.csv --src user --dst item --time ts --world 4
    """
    with one_line_errors(ctx):
        console = Console()
        if epochs < 1:
            raise ConfigError(f"--epochs is {epochs}; give at least 1")
        if shape is not None:
            if auto is not None:
                raise ConfigError(f"plan {shape} is given and --auto is to choose one; leave out either")
            given = ParallelPlan.parse(shape)
            trainers = _trainers(given.world if world is None else world, hosts)
            _show_plan(given, trainers, epochs, max(8, given.memory) if batches is None else batches, console)
        elif world is None:
            raise ConfigError("the number of trainers is missing; give --world, or a plan such as 1x2x2")
        elif auto is None:
            _show_shapes(_trainers(world, hosts), epochs, console)
        else:
            if host_memory is not None and not 0 < host_memory < 2**30:
                raise ConfigError(f"--host-memory is {host_memory}; give GiB above 0")
            if memory_dim < 1:
                raise ConfigError(f"--memory-dim is {memory_dim}; give at least 1")
            _trainers(world, hosts)
            with loading():
                from pyg_mspipe.data import split_stream
                from pyg_mspipe.distributed import choose_plan
                from pyg_mspipe.distributed.shared_memory import spare_host_memory
                from pyg_mspipe.training.source import open_stream
            data = open_stream(options.source_of(auto, **reading))
            with loading():
                from pyg_mspipe.memory import RowState
                from pyg_mspipe.memory.stream_memory import node_tables
            choice = choose_plan(
                data,
                split_stream(data).train,
                world=world,
                hosts=hosts,
                batch_size=batch_size,
                max_loss=max_loss,
                group_bytes=RowState(node_tables(data.num_nodes, memory_dim, "meta")).nbytes,
                host_memory=spare_host_memory() if host_memory is None else int(host_memory * _GIB),
            )
            _show_choice(choice, batch_size, epochs, console)
            console.print(
                Text(f"\n{_command(choice.plan, [auto, *options.flags_of(reading)], batch_size, hosts)}"),
                highlight=False,
                soft_wrap=True,
            )


def _trainers(world: int, hosts: int) -> list[int]:
    if not 1 <= world <= _MOST_TRAINERS:
        raise ConfigError(f"{world} trainers; give 1 to {_MOST_TRAINERS}")
    return spread(world, hosts)


def _show_plan(plan: ParallelPlan, trainers: list[int], epochs: int, batches: int, console: Console) -> None:
    from pyg_mspipe.distributed import SweepSchedule

    host_of = plan.hosts(trainers)
    schedule = SweepSchedule(plan, batches)
    sweeps = plan.sweeps(epochs)
    parts = (
        _counted(plan.world, "trainer"),
        f"{_counted(plan.memory, 'memory group')} on {_counted(len(trainers), 'host')}",
        f"{_counted(epochs, 'epoch')} in {_counted(sweeps, 'sweep')} of {plan.epochs_per_sweep} each",
    )
    console.print(
        Text(f"plan {plan}: ", style="bold") + Text("; ".join(parts), style="not bold"), highlight=False, soft_wrap=True
    )
    console.print()
    console.print(_seats(schedule, host_of), highlight=False)
    console.print()
    shown = _steps_that_fit(schedule, console.width)
    some = "" if len(shown) == schedule.num_steps else f", the first {len(shown)} of them"
    console.print(
        f"[bold]the first sweep: {_counted(schedule.num_batches, 'batch', 'batches')} "
        f"in {_counted(schedule.num_steps, 'step')}{some}",
        highlight=False,
    )
    console.print(_steps(schedule, shown), highlight=False, no_wrap=True)
    console.print(
        "A number is the batch in training; RW: read from node memory and committed to it in this step; "
        "/n: trained with the set of negatives n. A group's memory is reset before batch 0.",
        style="dim",
        highlight=False,
    )


def _seats(schedule: SweepSchedule, host_of: list[int]) -> RenderableType:
    plan = schedule.plan
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in ("rank", "host", "group", "slot", "part"):
        table.add_column(column, justify="right")
    table.add_column("begins at")
    for seat in plan.seats()[:_ROWS_SHOWN]:
        begins = f"batch {schedule.first_batch(seat.group)}, {seat.group}/{plan.memory} of the stream"
        table.add_row(*map(str, (seat.rank, host_of[seat.group], seat.group, seat.slot, seat.part)), begins)
    return Group(table, *_omitted(plan))


def _steps_that_fit(schedule: SweepSchedule, width: int) -> range:
    return range(min(schedule.num_steps, max((width - _LABEL) // sum(_widths(schedule)), 1)))


def _steps(schedule: SweepSchedule, steps: range) -> RenderableType:
    """Returns a row for each rank and a column for each step."""
    plan = schedule.plan
    table = Table(box=None, pad_edge=False, padding=0)
    table.add_column(f"{'rank':{_LABEL}}")
    for step in steps:
        table.add_column(f"{step:^{sum(_widths(schedule))}}")
    for seat in plan.seats()[:_ROWS_SHOWN]:
        if seat.group and seat.rank == plan.ranks(seat.group)[0]:
            table.add_row()
        table.add_row(f"{seat.rank:>4}", *(_cell(schedule, seat, step) for step in steps))
    return Group(table, *_omitted(plan))


def _cell(schedule: SweepSchedule, seat: Seat, step: int) -> Text:
    assignment = schedule.assignment(seat, step)
    if assignment is None:
        return Text("")
    batch, access, negatives = _widths(schedule)
    text = f"{assignment.batch:>{batch}}{'RW' if assignment.visit == 0 else '':{access}}"
    number = f"/{schedule.epoch(0, seat.group, assignment.visit)}"
    # A trainer's next batch, and the next slot's batch, get another colour.
    color = sum(divmod(assignment.position, schedule.plan.epoch)) % len(_STYLES)
    return Text(f"{text}{number:{negatives}}", style=_STYLES[color])


def _widths(schedule: SweepSchedule) -> tuple[int, int, int]:
    """Returns how wide batch, access and negatives are in a cell."""
    most = schedule.num_batches - 1, schedule.plan.epochs_per_sweep - 1
    return len(f" {most[0]}"), len("RW"), len(f"/{most[1]} ")


def _omitted(plan: ParallelPlan) -> list[Text]:
    left = plan.world - _ROWS_SHOWN
    return [Text(f"and {_counted(left, 'more rank', 'more ranks')}", style="dim")] if left > 0 else []


def _show_shapes(trainers: list[int], epochs: int, console: Console) -> None:
    table = Table()
    for column in ("i x j x k", "groups on a host", "epochs in a sweep", f"sweeps for {epochs}"):
        table.add_column(column, justify="right")
    refused = []
    for plan in shapes(sum(trainers)):
        try:
            host_of = plan.hosts(trainers)
        except PlanError as error:
            refused.append(str(error))
        else:
            table.add_row(*map(str, (plan, host_of.count(0), plan.epochs_per_sweep, plan.sweeps(epochs))))
    where = f"{_counted(sum(trainers), 'trainer')} on {_counted(len(trainers), 'host')}"
    console.print(f"[bold]plans of {where}", highlight=False)
    console.print(table, highlight=False)
    if refused:
        console.print("[bold]not possible there:", highlight=False)
    for line in refused:
        console.print(Text(f"- {line}"), highlight=False, soft_wrap=True)


def _show_choice(choice: PlanChoice, batch_size: int, epochs: int, console: Console) -> None:
    plan = choice.plan
    table = Table()
    for column in ("batch size", "events that miss a dependency", "loss", ""):
        table.add_column(column, justify="right" if column else "left")
    for each in choice.measured:
        marks = {batch_size: "one trainer", choice.largest_batch: "largest within the loss"}
        marks[plan.minibatch * batch_size] = f"i = {plan.minibatch}"
        note = [mark for size, mark in marks.items() if size == each.batch_size]
        lost = f"{each.loss:.1%}" if each.batch_size >= batch_size else "-"
        table.add_row(f"{each.batch_size:,}", f"{each.missed:.1%}", lost, ", ".join(note))
    console.print(table, highlight=False)
    console.print(
        "An event misses a dependency if one of its nodes had its previous event in the same batch. Loss: the "
        "drop in events that miss none, as a share of those in the batch of one trainer.",
        style="dim",
        highlight=False,
    )
    sweeps = f"{_counted(plan.sweeps(epochs), 'sweep')} for {_counted(epochs, 'epoch')}"
    console.print(f"\n[bold]plan {plan}[/bold], {sweeps}, because:", highlight=False)
    for reason in choice.reasons:
        console.print(Text(f"- {reason}"), highlight=False, soft_wrap=True)


def _command(plan: ParallelPlan, stream: list[str], batch_size: int, hosts: int) -> str:
    """Returns the command that trains a stream, given with its flags, with a plan."""
    train = f"-m pyg_mspipe train {shlex.join(stream)} --parallel {plan} --batch-size {batch_size}"
    where = f"--nnodes {hosts} --node-rank ... --master-addr ... " if hosts > 1 else ""
    return f"torchrun {where}--nproc-per-node {plan.world // hosts} {train}"


def _counted(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
