"""One trainer of several runs, one after the other; started by torchrun with a file that lists them.

Each run is an object with ``folder``, ``settings``, ``stream``: a file with its tensors; and, where wanted,
``resume``: the checkpoint to go on from; ``photographs``: whether the folder is copied whenever a checkpoint is
written; ``delays``: a seed of random delays before each stage and turn. The last argument is a folder for logs of
accesses to memory.
"""

import gc
import json
import os
import random
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist
from small_runs import photograph, small_config
from torch_geometric.data import TemporalData

from pyg_mspipe.distributed import ParallelPlan, ProcessExecutor, World
from pyg_mspipe.distributed.memory_turns import MemoryTurns
from pyg_mspipe.pipeline.work import StageWork
from pyg_mspipe.training import Saved, Trainer, load_checkpoint

DELAY = 0.004


def photograph_of_all(event):
    """Has the first process take a photograph of the folder, when all have written theirs."""
    if isinstance(event, Saved):
        if dist.get_rank() == 0:
            photograph(event)
        dist.barrier()


def delay(cls, name, seed):
    """Lets a method begin and end late, at random; returns what undoes it."""
    original, draws = getattr(cls, name), random.Random(seed)

    def delayed(self, *args):
        time.sleep(draws.random() * DELAY)
        result = original(self, *args)
        time.sleep(draws.random() * DELAY)
        return result

    setattr(cls, name, delayed)
    return lambda: setattr(cls, name, original)


def run(number, job, logs):
    # Every run has addresses of its own, as one that torchrun has started anew.
    os.environ["TORCHELASTIC_RESTART_COUNT"] = str(number)
    config = small_config(**job["settings"])
    world = World(ParallelPlan.parse(config.parallel), torch.device("cpu"), config.timeout)
    undo = []
    if "delays" in job:
        places = [(StageWork, "__call__"), (MemoryTurns, "end_read"), (MemoryTurns, "end_commit")]
        undo = [delay(cls, name, f"{job['delays']} {world.rank} {name}") for cls, name in places]
    turns = []
    executor = ProcessExecutor(world, turns)
    listeners = [photograph_of_all] if job.get("photographs") else []
    data = TemporalData(**torch.load(job["stream"], weights_only=True))
    trainer = Trainer(data, config, job["folder"], executor=executor, listeners=listeners)
    if "resume" in job:
        trainer.load(load_checkpoint(Path(job["resume"])))
    trainer.fit()
    for each in undo:
        each()
    records = [asdict(record) for record in turns]
    (logs / f"{number}.rank{world.rank}.json").write_text(json.dumps(records))
    # DistributedDataParallel must not be the last to hold the processes' connection: what ends that with the
    # interpreter's lock held may wait for a thread that waits for the lock.
    del trainer, executor
    gc.collect()
    world.close()


if __name__ == "__main__":
    for number, job in enumerate(json.loads(Path(sys.argv[1]).read_text())):
        run(number, job, Path(sys.argv[2]))
