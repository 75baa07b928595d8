"""What a run's timeline says: which stage limits it, how much of the others was hidden, how stale memory was.

    python examples/read_timeline.py [STREAM] [--staleness minimal] [--png timeline.png]

The trace is a Chrome trace: https://ui.perfetto.dev opens it too.
"""

import argparse
import tempfile
from pathlib import Path

from pyg_mspipe import TrainConfig, Trainer, load_stream
from pyg_mspipe.timeline import draw_timeline, read_trace, summarize_timeline

parser = argparse.ArgumentParser()
parser.add_argument("stream", nargs="?", default="synthetic")
parser.add_argument("--staleness", default="minimal", help="sequential, exact, minimal or a whole number")
parser.add_argument("--png", type=Path, default=Path("timeline.png"))
args = parser.parse_args()

with tempfile.TemporaryDirectory() as folder:
    trace = Path(folder) / "trace.json"
    # Always overlapped, so that there is something to see also where it would not pay.
    config = TrainConfig(epochs=1, staleness=args.staleness, overlap="always", timeline=str(trace), threads=1)
    Trainer(load_stream(args.stream), config).fit()
    records = read_trace(trace)  # when each stage worked on each batch

summary = summarize_timeline(records)
print(f"{summary.rate:.1f} batches a second; limited by {summary.limit}: {summary.advice}")
for stage, each in summary.stages.items():
    print(f"  {stage:6}  {each.duration * 1e3:6.2f} ms  busy {each.busy:4.0%}")
if summary.overlap is not None:
    print(f"{summary.overlap:.0%} of what the slowest stage could hide of the others was hidden")
for commits, batches in summary.staleness.items():
    print(f"memory missed {commits} commits in {batches} of {sum(summary.staleness.values())} batches")
draw_timeline(records, args.png)
print(f"some batches from the middle are drawn in {args.png}")
