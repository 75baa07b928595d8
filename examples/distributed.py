"""Two trainers of one model: each has a node memory of its own, half a stream apart, and weights are shared (1x1x2).

    torchrun --nproc-per-node 2 examples/distributed.py [STREAM] [--epochs 4]

Started without torchrun, one process does what the two would do, one after the other, with the same losses:

    python examples/distributed.py
"""

import argparse

from pyg_mspipe import ParallelPlan, TrainConfig, Trainer, load_stream
from pyg_mspipe.distributed import EmulatedExecutor, ProcessExecutor, World, torchrun_started
from pyg_mspipe.training import pick_device

parser = argparse.ArgumentParser()
parser.add_argument("stream", nargs="?", default="synthetic")
parser.add_argument("--epochs", type=int, default=4)
args = parser.parse_args()

plan = ParallelPlan.parse("1x1x2")
config = TrainConfig(epochs=args.epochs, parallel=str(plan), threads=1)
data = load_stream(args.stream)


def report(progress):
    print(f"{progress.step} steps of {plan.world} trainers, best validation AP {progress.best:.4f}")


if torchrun_started():
    world = World(plan, pick_device(config.device), config.timeout)
    progress = Trainer(data, config, executor=ProcessExecutor(world)).fit()
    if world.leads:
        report(progress)
    world.close()
else:
    print(f"not started by torchrun: one process stands for the {plan.world} trainers")
    report(Trainer(data, config, executor=EmulatedExecutor()).fit())
