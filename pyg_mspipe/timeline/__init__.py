"""Timelines of a pass, recorded or simulated: traces, figures and summaries."""

from typing import TYPE_CHECKING

from pyg_mspipe._lazy import lazy

if TYPE_CHECKING:
    from pyg_mspipe.timeline.figure import draw_timeline
    from pyg_mspipe.timeline.summary import StageSummary, TimelineSummary, summarize_timeline
    from pyg_mspipe.timeline.trace import read_trace
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "figure": ["draw_timeline"],
            "summary": ["StageSummary", "TimelineSummary", "summarize_timeline"],
            "trace": ["read_trace"],
        },
    )

__all__ = ["StageSummary", "TimelineSummary", "draw_timeline", "read_trace", "summarize_timeline"]
