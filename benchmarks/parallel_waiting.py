"""How much of a core a trainer takes while it waits for another: what ``parallel_rate`` starts with torchrun."""

from __future__ import annotations

import sys
import time

import torch
import torch.distributed as dist

from pyg_mspipe import TGN, ParallelPlan
from pyg_mspipe.distributed import World
from pyg_mspipe.distributed.memory_group import MemoryGroup


def main(seconds: float) -> None:
    """Prints, in rank 1, the share of a core that it took while rank 0 slept: at a collective, and for a turn."""
    plan = ParallelPlan(epoch=2)
    world = World(plan, torch.device("cpu"), 60)
    group = MemoryGroup(plan, world.seat, TGN(10, 0).memory.state, timeout=60)
    group.turns.start("sweep", 0)
    shares = {}
    for name in ("collective", "turn"):
        group.barrier()
        began, computed = time.perf_counter(), time.process_time()
        if world.leads:
            time.sleep(seconds)
        if name == "collective":
            dist.all_reduce(torch.zeros(1000))
        elif world.leads:
            group.turns.begin_commit(0)
            group.turns.end_commit(0)
        else:
            group.turns.begin_read(1)
        shares[name] = (time.process_time() - computed) / (time.perf_counter() - began)
    group.barrier()
    if not world.leads:
        sys.stdout.write(f"{shares['collective']} {shares['turn']}\n")
    world.close()


if __name__ == "__main__":
    main(float(sys.argv[1]))
