"""Many trainers against one: losses, events/s, AP against steps and against time, and larger batches.

python -m benchmarks.parallel equality  [--quick]
python -m benchmarks.parallel rate      [--rounds 5] [--quick]
python -m benchmarks.parallel accuracy  [--seeds 3] [--epochs 6] [--quick]
python -m benchmarks.parallel batch     [--seeds 3] [--epochs 3] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import accumulate, product
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from benchmarks.report import write_json
from benchmarks.tgn_training import ROOT
from pyg_mspipe import ParallelPlan
from pyg_mspipe.distributed.planner import shapes

DATA = ROOT.parent / "shared" / "data"
SINGLE = "1x1x1"
STATIC = ("--static-dim", "100")


@dataclass(frozen=True)
class Run:
    """One training of a plan on a stream, each process with one thread."""

    stream: str
    plan: str
    seed: int = 0
    epochs: int = 1
    flags: tuple[str, ...] = ()

    def __call__(self, kind: str = "epoch") -> list[dict[str, Any]]:
        """Returns the lines of one kind of the metrics file."""
        plan = ParallelPlan.parse(self.plan)
        with tempfile.TemporaryDirectory() as folder:
            start = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(plan.world), "-m"]
            alone = plan.world == 1 or "--emulate" in self.flags
            command = [sys.executable, "-m", *([] if alone else start), "pyg_mspipe", "train", self.stream]
            command += ["--out", folder, "--parallel", self.plan, "--threads", "1", "--epochs", str(self.epochs)]
            command += ["--seed", str(self.seed), "--patience", "0", "--no-tensorboard", *self.flags]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
            lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
        return [line for line in map(json.loads, lines) if line["kind"] == kind]


def main() -> None:
    """Runs one part of the benchmark, prints its table and writes its results."""
    args = _parse()
    console = Console()
    machine = describe_machine() | {"threads": 1}
    part = {"rate": _rate, "accuracy": _accuracy, "batch": _batch, "equality": _equality}[args.part]
    result = {"benchmark": f"parallel_{args.part}", "machine": machine, **part(args, console)}
    path = ROOT / "benchmarks" / "results" / f"parallel_{args.part}{'-quick' if args.quick else ''}.json"
    write_json(path, result)
    console.print(f"written to {path}")


def _rate(args: argparse.Namespace, console: Console) -> dict[str, object]:
    """Trains each event as often as a plan does in a sweep, in turns, and compares events/s.

    Each process has one thread, and prepares its batches in it; the pipeline of a single one, on another core, is
    another row.
    """
    stream = _stream("wikipedia", quick=args.quick)
    plans = {plan: (plan, "never") for plan in (SINGLE, "1x1x2", "1x2x1", "2x1x1", *(() if args.quick else ("1x2x2",)))}
    plans[f"{SINGLE}, overlap"] = SINGLE, "always"
    rates: dict[str, list[float]] = {label: [] for label in plans}
    for turn in range(args.rounds):
        for label, (plan, overlap) in plans.items():
            epochs = ParallelPlan.parse(plan).epochs_per_sweep
            (line,) = Run(stream, plan, epochs=epochs, flags=("--overlap", overlap))()
            rates[label].append(line["rate"])
            console.print(f"round {turn + 1}  {label}  {line['rate']:,.0f} events/s")
    rows = [
        {
            "plan": label,
            "events_per_second": each,
            "median": median(each),
            "ratio": median(each) / median(rates[SINGLE]),
        }
        for label, each in rates.items()
    ]
    table = Table("plan", "events/s", "ratio")
    for row in rows:
        table.add_row(str(row["plan"]), f"{row['median']:,.0f}", f"{row['ratio']:.2f}")
    console.print(table)
    waiting = _waiting()
    console.print(f"a trainer that waits takes {waiting['collective']:.1%} of a core, for a turn {waiting['turn']:.1%}")
    return {"stream": "wikipedia", "batch_size": 200, "rounds": args.rounds, "waiting": waiting, "rows": rows}


def _waiting() -> dict[str, float]:
    """Returns the share of a core that a waiting trainer takes."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*start, "-m", "benchmarks.parallel_waiting"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    collective, turn = map(float, done.stdout.split()[-2:])
    return {"collective": collective, "turn": turn}


def _accuracy(args: argparse.Namespace, console: Console) -> dict[str, object]:
    """Trains plans for the same number of events and follows their AP."""
    plans: dict[str, tuple[str, tuple[str, ...]]] = {
        SINGLE: (SINGLE, ()),
        "1x1x2": ("1x1x2", ()),
        "1x2x1": ("1x2x1", ()),
        "1x2x1, lr unscaled": ("1x2x1", ("--lr-scaling", "none")),
        "2x1x1": ("2x1x1", ()),
        "2x1x1, static": ("2x1x1", STATIC),
        "1x2x2": ("1x2x2", ()),
    }
    rows, loads = [], []
    for name in args.streams:
        stream = _stream(name, quick=args.quick)
        for label, (plan, flags) in plans.items():
            if label not in (SINGLE, "1x1x2", "1x2x1") and (args.quick or name != "wikipedia"):
                continue
            curves = []
            for seed in range(args.seeds):
                lines = Run(stream, plan, seed, args.epochs, flags)()
                seconds = accumulate(line["trained"] / line["rate"] for line in lines)
                curves.append(
                    [
                        {"step": line["step"] + 1, "epoch": line["epoch"] + 1, "seconds": moment, "ap": line["ap"]}
                        for line, moment in zip(lines, seconds, strict=True)
                    ]
                )
                loads.append(os.getloadavg()[0])
                aps = " ".join(f"{point['ap']:.4f}" for point in curves[-1])
                console.print(f"{name}  {label}  seed {seed}: {curves[-1][-1]['step']} steps, AP {aps}")
            rows.append({"stream": name, "plan": label, "curves": curves} | _best(curves))
    return {
        "epochs": args.epochs,
        "seeds": args.seeds,
        "batch_size": 200,
        "lr": "1e-3 x world",
        "loads": loads,
        "rows": rows,
    }


def _best(curves: Sequence[Sequence[dict[str, float]]]) -> dict[str, float]:
    best = [max(point["ap"] for point in curve) for curve in curves]
    deviation = stdev(best) if len(best) > 1 else 0.0
    return {"best_ap": fmean(best), "stdev_ap": deviation, "steps": curves[0][-1]["step"]}


def _equality(args: argparse.Namespace, console: Console) -> dict[str, object]:
    """Compares the losses of a sweep with those of the emulator, for every plan of two and four trainers."""
    stream = _stream("collegemsg", quick=args.quick)
    rows = []
    for world in (2,) if args.quick else (2, 4):
        for plan in shapes(world):
            run = Run(stream, str(plan), epochs=plan.epochs_per_sweep)
            losses = [line["loss"] for line in run("batch")]
            emulated = [line["loss"] for line in replace(run, flags=("--emulate",))("batch")]
            apart = max(abs(a - b) for a, b in zip(losses, emulated, strict=True))
            rows.append({"plan": str(plan), "steps": len(losses), "largest_difference": apart})
            console.print(f"{plan}: {len(losses)} steps, at most {apart:.1e} apart")
    return {"stream": "collegemsg", "batch_size": 200, "rows": rows}


def _batch(args: argparse.Namespace, console: Console) -> dict[str, object]:
    """Trains one trainer at growing batch sizes, with static memory and without."""
    stream = _stream("wikipedia", quick=args.quick)
    sizes = (200, 600) if args.quick else (200, 600, 1200, 2400)
    tasks = [
        (size, static, Run(stream, SINGLE, seed, args.epochs, ("--batch-size", str(size), *(STATIC if static else ()))))
        for size, static, seed in product(sizes, (False, True), range(args.seeds))
    ]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda task: max(line["ap"] for line in task[2]()), tasks))
    rows = []
    for size, static in product(sizes, (False, True)):
        aps = [ap for (a, b, _), ap in zip(tasks, results, strict=True) if (a, b) == (size, static)]
        deviation = stdev(aps) if len(aps) > 1 else 0.0
        rows.append({"batch_size": size, "static": static, "ap": aps, "mean_ap": fmean(aps), "stdev_ap": deviation})
        console.print(f"batch {size}{', static' if static else ''}: AP {fmean(aps):.4f}")
    return {"stream": "wikipedia", "epochs": args.epochs, "seeds": args.seeds, "lr": 1e-3, "rows": rows}


def _stream(name: str, *, quick: bool) -> str:
    path = DATA / f"{name}.npz"
    return "synthetic" if quick or not path.exists() else str(path)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("equality", "rate", "accuracy", "batch"))
    parser.add_argument("--rounds", type=int, default=5, help="of the rates, in turns")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6, help="how often each event is trained")
    parser.add_argument("--streams", nargs="+", default=["wikipedia", "collegemsg"], help="of the accuracy")
    parser.add_argument("--quick", action="store_true", help="a small stream, to see that it runs")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seeds, args.epochs, args.streams = 1, 1, 2, ["wikipedia"]
    return args


if __name__ == "__main__":
    main()
