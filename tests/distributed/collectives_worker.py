"""One of four processes that add up tensors and share memory; each writes what it has found into a folder."""

import copy
import faulthandler
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch_geometric.nn.models.tgn import IdentityMessage

from pyg_mspipe.distributed.gradients import GradientSums, OrderedSum, add_in_order
from pyg_mspipe.distributed.shared_memory import SharedMemoryError, share
from pyg_mspipe.memory import LastAggregator, TGNMemory

SIZES = [1, 2, 3, 4, 5, 7, 64, 1001]
ENDS = {
    "values": (torch.float32, (7, 3)),
    "none": (torch.float32, (4, 0)),
    "one": (torch.int64, ()),
    "flags": (torch.bool, (65,)),
}


def parts(size, world):
    """What each rank adds, of very different magnitudes, so that the order of the sum can be seen."""
    generator = torch.Generator().manual_seed(1000 * world + size)
    return [torch.randn(size, generator=generator) * 10.0 ** (3 * rank) for rank in range(world)]


def all_reduces():
    rank, wrong, seen = dist.get_rank(), [], 0
    for world in (2, 3, 4):
        group = dist.new_group(list(range(world)))
        if rank >= world:
            continue
        for size in SIZES:
            each = parts(size, world)
            own = each[rank].clone()
            expected = add_in_order(each)
            OrderedSum(own, group).wait()
            if not torch.equal(own, expected):
                wrong.append((world, size))
            seen += int(not torch.equal(expected, add_in_order(each[::-1])))
    own = parts(9, 4)
    expected = add_in_order(own)
    OrderedSum(own[rank]).wait()
    if not torch.equal(own[rank], expected):
        wrong.append("all")
    return {"wrong": wrong, "order matters": seen}


def gradients():
    """Two pairs of processes that add up the gradients of a module whose parameters fill several buckets."""
    rank = dist.get_rank()
    group = [dist.new_group([2 * n, 2 * n + 1]) for n in range(2)][rank // 2]
    torch.manual_seed(rank // 2)
    module = torch.nn.Sequential(*(torch.nn.Linear(600, 600) for _ in range(3)))
    alone = copy.deepcopy(module)
    together = DistributedDataParallel(module, process_group=group, gradient_as_bucket_view=True)
    sums, buckets = GradientSums(group), []

    def hook(state, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        buckets[-1].append(bucket.buffer().numel())
        return sums.hook(state, bucket)

    together.register_comm_hook(None, hook)
    wrong = []
    for step in range(5):
        inputs = torch.randn(2, 7, 600)
        buckets.append([])
        sums.expect()
        module.zero_grad()
        together(inputs[rank % 2]).square().sum().backward()
        sums.wait()
        expected = []
        for part in inputs:
            alone.zero_grad()
            alone(part).square().sum().backward()
            expected.append([parameter.grad for parameter in alone.parameters()])
        found = [parameter.grad for parameter in module.parameters()]
        if not all(torch.equal(mine, first + second) for mine, first, second in zip(found, *expected, strict=True)):
            wrong.append(step)
    return {"wrong": wrong, "buckets": buckets}


class OwnModel(torch.nn.Module):
    """A memory within a module, as users have it."""

    def __init__(self):
        super().__init__()
        self.memory = TGNMemory(5, 1, 4, 4, IdentityMessage(1, 4, 4), LastAggregator())
        self.lin = torch.nn.Linear(4, 1)

    def forward(self, n_id):
        return self.lin(self.memory(n_id)[0])


def memories():
    """What the wrapper of data parallel training leaves of memories that differ."""
    rank = dist.get_rank()
    model = OwnModel()
    together = DistributedDataParallel(model)
    for step in range(3):
        update = torch.tensor([rank]), torch.tensor([4]), torch.tensor([10 * step + rank]), torch.ones(1, 1)
        before = copy.deepcopy(model.memory)
        loss = together(torch.arange(5)).sum()
        model.memory.update_state(*update)
        loss.backward()
        model.memory.detach()
        before.update_state(*update)
    kept = torch.allclose(before.memory, model.memory.memory, atol=1e-6)
    return {"kept": kept, "last update": model.memory.last_update.tolist()}


def content(seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randint(0, 2, shape, generator=generator).to(dtype) for name, (dtype, shape) in ENDS.items()}


def shared():
    """Two groups of two processes, which share memory at the same time."""
    rank = dist.get_rank()
    groups = [dist.new_group([2 * n, 2 * n + 1]) for n in range(2)]
    group, leader = groups[rank // 2], 2 * (rank // 2)
    tensors = share(content(rank), group, leader)
    expected = content(leader)
    found = {"leader's": all(torch.equal(x, expected[name]) for name, x in tensors.items())}
    found["like"] = all(
        x.dtype == expected[name].dtype and x.shape == expected[name].shape for name, x in tensors.items()
    )
    found["aligned"] = all(x.data_ptr() % 64 == 0 for x in tensors.values() if x.numel())
    dist.barrier()
    if rank != leader:
        tensors["values"][3] = rank
        tensors["flags"].fill_(True)
    dist.barrier()
    found["seen by both"] = bool((tensors["values"][3] == leader + 1).all()) and bool(tensors["flags"].all())
    found["nothing else changed"] = torch.equal(tensors["values"][:3], expected["values"][:3])
    dist.barrier()
    return found, tensors


def refused():
    """More than any machine has."""
    try:
        share({"x": torch.zeros(1).expand(1 << 60)}, None, 0)
    except SharedMemoryError as error:
        return str(error)
    return "none"


def names():
    """The files of shared memory that this process sees, as the system lists them."""
    maps = Path("/proc/self/maps")
    return [line for line in maps.read_text().splitlines() if "mspipe-" in line] if maps.exists() else []


if __name__ == "__main__":
    faulthandler.dump_traceback_later(100, exit=True)
    dist.init_process_group("gloo")
    found, tensors = shared()
    result = {"sums": all_reduces(), "gradients": gradients(), "shared": found, "refused": refused(), "names": names()}
    result["memories"] = memories()
    torch.save(result, Path(sys.argv[1]) / f"{dist.get_rank()}.pt")
    dist.barrier()
    dist.destroy_process_group()
