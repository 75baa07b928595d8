"""Timelines of a pass, recorded or simulated: traces, figures and summaries."""

from pyg_mspipe.timeline.figure import draw_timeline
from pyg_mspipe.timeline.summary import StageSummary, TimelineSummary, summarize_timeline
from pyg_mspipe.timeline.trace import read_trace

__all__ = ["StageSummary", "TimelineSummary", "draw_timeline", "read_trace", "summarize_timeline"]
