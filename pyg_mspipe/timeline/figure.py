"""The timeline of some batches as a figure; needs matplotlib."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from pyg_mspipe.data.atomic_write import atomic_write
from pyg_mspipe.pipeline.record import STAGES, BatchRecord, StageName
from pyg_mspipe.timeline.trace import drawn_commits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN = 12
# Light enough for black numbers, and told apart with any colour vision; neighbours differ in lightness too.
_COLORS = ("#77AADD", "#EEDD88", "#44BB99", "#FFAABB", "#BBCC33", "#EE8866")
_INK, _ARROW = "#222222", "#777777"
_FONT = 7.0
_BAR = 0.72
_STRIP = 1.0
_STRIP_BASE = len(STAGES) + _STRIP


def draw_timeline(
    records: Iterable[BatchRecord],
    path_or_axes: Path | str | Axes,
    *,
    first: int | None = None,
    last: int | None = None,
) -> Figure:
    """Returns a figure with a lane for each stage and, below, the staleness of each batch.

    Time runs from the fetch of the first batch to the commit of the last; all batches that a stage worked on meanwhile
    are drawn. An arrow leads from a commit to the fetch that was the first to see it; a mark in training says when the
    batch's new memory rows existed; an outline in the strip shows how much staleness was allowed.

    Args:
        records: The records of the batches of one pass. Stages that a batch has not finished are left out.
        path_or_axes: A file to write, in the format that the suffix of its name says, or axes to draw into.
        first: The first batch to draw. Without ``first`` and ``last``, a dozen batches from the middle are drawn.
        last: The last batch to draw.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there is no batch from ``first`` to ``last``.
        OSError: If the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("drawing needs matplotlib, which is missing; pip install 'pyg-mspipe[plot]'") from error

    records = sorted((record for record in records if record.finish), key=lambda record: record.index)
    chosen = _choose(records, first, last)
    if not isinstance(path_or_axes, Path | str):
        _draw(path_or_axes, records, chosen)
        figure = path_or_axes.figure
        assert isinstance(figure, Figure)
        return figure

    figure = Figure(figsize=(9.0, 3.6), dpi=200, layout="constrained")
    _draw(figure.add_subplot(), records, chosen)
    image, path = BytesIO(), Path(path_or_axes)
    figure.savefig(image, format=path.suffix.removeprefix(".") or "png")
    with atomic_write(path) as file:
        file.write(image.getvalue())
    return figure


def _choose(records: Sequence[BatchRecord], first: int | None, last: int | None) -> Sequence[BatchRecord]:
    if not records:
        raise ValueError("no batch finished a stage; give records of a pass that trained some")
    if first is None and last is None:
        start = max(0, (len(records) - _SHOWN) // 2)
        return records[start : start + _SHOWN]
    if first is None:
        first = max(0, (records[-1].index if last is None else last) - _SHOWN + 1)
    if last is None:
        last = first + _SHOWN - 1
    chosen = [record for record in records if first <= record.index <= last]
    if not chosen:
        raise ValueError(
            f"no batches from {first} to {last}; there are {records[0].index} to {records[-1].index}, choose among them"
        )
    return chosen


def _window(records: Sequence[BatchRecord], chosen: Sequence[BatchRecord]) -> tuple[float, float]:
    """Returns the time from the first batch's fetch, or from the start of the pass, to the last batch's commit."""
    head = chosen[0]
    late: tuple[StageName, ...] = STAGES if head is records[0] else ("fetch", "train", "update")
    begins = [head.begin[stage] for stage in late if stage in head.finish] or list(head.begin.values())
    return min(begins), max(finish for record in chosen for finish in record.finish.values())


def _draw(axes: Axes, records: Sequence[BatchRecord], chosen: Sequence[BatchRecord]) -> None:
    start, end = _window(records, chosen)
    shown = [
        record
        for record in records
        if any(record.begin[stage] < end and record.finish[stage] > start for stage in record.finish)
    ]
    _prepare(axes, start, end)
    _draw_bars(axes, shown, start, end)
    _draw_rows(axes, shown, start)
    _draw_arrows(axes, records, start, end)
    _draw_staleness(axes, shown, start, end)
    _draw_legend(axes)


def _prepare(axes: Axes, start: float, end: float) -> None:
    length = max(end - start, 1e-9) * 1e3
    axes.set_xlim(-0.005 * length, 1.005 * length)
    axes.set_ylim(_STRIP_BASE + 0.06, -0.5)
    axes.set_yticks(range(len(STAGES)), STAGES)
    since = f"; 0 is {start * 1e3:,.0f} ms into the pass" if start > 0 else ""
    axes.set_xlabel(f"time (ms){since}", fontsize=_FONT + 1)
    axes.tick_params(labelsize=_FONT + 1, length=3, color=_INK)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    for lane in range(len(STAGES)):
        axes.axhspan(lane - _BAR / 2, lane + _BAR / 2, color="#f3f3f3", zorder=0, linewidth=0)


def _draw_bars(axes: Axes, records: Sequence[BatchRecord], start: float, end: float) -> None:
    for lane, stage in enumerate(STAGES):
        done = [record for record in records if stage in record.finish]
        done = [record for record in done if record.begin[stage] < end and record.finish[stage] > start]
        # A white edge keeps neighbours apart, but would hide a bar not wider than itself.
        wide = [record.duration(stage) * _points_per_second(axes, start, end) > 3 for record in done]
        axes.barh(
            lane,
            [record.duration(stage) * 1e3 for record in done],
            left=[(record.begin[stage] - start) * 1e3 for record in done],
            height=_BAR,
            color=[_color(record) for record in done],
            edgecolor=["white" if each else _color(record) for each, record in zip(wide, done, strict=True)],
            linewidth=[0.5 if each else 0.9 for each in wide],
            zorder=2,
        )
        _draw_numbers(axes, lane, stage, done, start, end)


def _draw_numbers(
    axes: Axes, lane: int, stage: StageName, records: Sequence[BatchRecord], start: float, end: float
) -> None:
    """Writes batch numbers into the bars that have room for them: all of a lane upright, or all turned."""
    from matplotlib.patheffects import withStroke

    spans = [(max(record.begin[stage], start) - start, min(record.finish[stage], end) - start) for record in records]
    widths = [(right - left) * _points_per_second(axes, start, end) for left, right in spans]
    room = [0.64 * _FONT * len(str(record.index)) + 2 for record in records]
    upright = 2 * sum(width > needed for width, needed in zip(widths, room, strict=True)) >= len(records)
    size = _FONT if upright else _FONT - 1
    for record, (left, right), width, needed in zip(records, spans, widths, room, strict=True):
        if width > (needed if upright else 1.1 * size):
            axes.text(
                (left + right) / 2 * 1e3,
                lane - (0.05 if stage == "train" else 0),  # above the mark of the new rows
                str(record.index),
                fontsize=size,
                color=_INK,
                ha="center",
                va="center",
                rotation=0 if upright else 90,
                path_effects=[withStroke(linewidth=2, foreground=_color(record))] if stage == "train" else None,
                zorder=5,
            )


def _draw_rows(axes: Axes, records: Sequence[BatchRecord], start: float) -> None:
    edge = STAGES.index("train") + _BAR / 2
    at = [(record.rows_at - start) * 1e3 for record in records if record.rows_at is not None]
    axes.vlines(at, edge - 0.2 * _BAR, edge, color=_INK, linewidth=0.9, zorder=4)
    axes.plot(at, [edge] * len(at), linestyle="", marker="v", markersize=3, color=_INK, zorder=4)


def _draw_arrows(axes: Axes, records: Sequence[BatchRecord], start: float, end: float) -> None:
    tail, head = STAGES.index("update") - _BAR / 2, STAGES.index("fetch") + _BAR / 2
    commits = {record.index: record.finish["update"] for record in records if "update" in record.finish}
    seen = 0
    for record in records:
        if "fetch" not in record.finish:
            continue
        for commit in drawn_commits(seen, record.fetched):
            arrives = max(record.begin["fetch"], commits.get(commit, start))
            if commit in commits and start <= commits[commit] <= arrives < end:
                axes.annotate(
                    "",
                    xy=((arrives - start) * 1e3, head),
                    xytext=((commits[commit] - start) * 1e3, tail),
                    arrowprops={
                        "arrowstyle": "-|>,head_width=0.16,head_length=0.32",
                        "color": _ARROW,
                        "linewidth": 0.8,
                        "shrinkA": 0,
                        "shrinkB": 0,
                    },
                    zorder=3,
                )
        seen = max(seen, record.fetched)


def _draw_staleness(axes: Axes, records: Sequence[BatchRecord], start: float, end: float) -> None:
    trained = [record for record in records if "train" in record.finish]
    most = max((max(record.bound, record.staleness) for record in trained), default=0)
    unit = 0.8 * _STRIP / max(most, 1)
    left = [(record.begin["train"] - start) * 1e3 for record in trained]
    width = [record.duration("train") * 1e3 for record in trained]
    colors = [_color(record) for record in trained]
    height = [max(record.staleness * unit, 0.06) for record in trained]
    bottom = [_STRIP_BASE - each for each in height]
    axes.bar(left, height, width, bottom, align="edge", color=colors, edgecolor="white", linewidth=0.5, zorder=2)
    level = [_STRIP_BASE - record.bound * unit for record in trained]
    right = [begin + length for begin, length in zip(left, width, strict=True)]
    axes.hlines(level, left, right, color=_INK, linewidth=1.0, zorder=4, clip_on=True)
    levels = range(most + 1) if most <= 2 else (0, most)
    axes.set_yticks(
        [*range(len(STAGES)), *(_STRIP_BASE - each * unit for each in levels)],
        [*STAGES, *(f"staleness {each}" if each == 0 else str(each) for each in levels)],
    )


def _draw_legend(axes: Axes) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=_INK, linestyle="", marker="v", markersize=3, label="new memory rows exist"),
        Line2D(
            [], [], color=_ARROW, linewidth=0.8, marker=">", markersize=3, label="commit to the first fetch that saw it"
        ),
        Line2D([], [], color=_INK, linewidth=1.0, label="staleness allowed"),
    ]
    axes.legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, fontsize=_FONT, borderpad=0
    )


def _points_per_second(axes: Axes, start: float, end: float) -> float:
    return axes.get_window_extent().width * 72 / axes.figure.dpi / max(end - start, 1e-9)


def _color(record: BatchRecord) -> str:
    return _COLORS[record.index % len(_COLORS)]
