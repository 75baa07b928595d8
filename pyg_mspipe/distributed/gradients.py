"""Sums of all trainers' gradients, in the order of their ranks, computed while other work goes on.

The sum of floating-point numbers depends on the order. With one order for every backend and number of hosts, a run
gives the same losses wherever it runs, and so does its emulation in one process.
"""

# Annotations are not postponed here, since torch reads those of the hook.

from collections import deque
from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def add_in_order(parts: Sequence[Tensor]) -> Tensor:
    """Returns the sum of ``parts``, from the first to the last."""
    total = parts[0].clone()
    for part in parts[1:]:
        total += part
    return total


class OrderedSum:
    """A sum of one tensor of each rank, in the order of ranks, that is on its way.

    It sends as many bytes as a ring's all-reduce.

    Args:
        tensor: [n], the same size on all ranks; do not touch it before :meth:`wait` has put the sum there.
        group: The processes; by default all.
        receipt: The other one's tensor on its way, if there are two processes and it is already awaited.
    """

    def __init__(
        self, tensor: Tensor, group: dist.ProcessGroup | None = None, receipt: "Receipt | None" = None
    ) -> None:
        self.tensor = tensor
        self._group = group
        self._world = dist.get_world_size(group)
        self._receipt = receipt
        if sends_whole(group):
            # Sending half and getting half the sum back takes as many bytes, but two transfers in a row.
            self._receipt = receipt or Receipt(tensor.numel(), tensor.dtype, group)
            self._work = dist.isend(tensor, _other(group), group)
        else:
            padded = F.pad(tensor, (0, -tensor.numel() % self._world))
            self._received = torch.empty_like(padded)
            self._work = dist.all_to_all_single(self._received, padded, group=group, async_op=True)

    def wait(self) -> None:
        """Puts the sum in the tensor's place."""
        assert self._work is not None
        if self._receipt is not None:
            received = self._receipt.wait()
            self._work.wait()
            self.tensor += received  # two numbers have the same sum in either order
            return
        self._work.wait()
        share = add_in_order(self._received.view(self._world, -1).unbind())
        sums = torch.empty_like(self._received)
        dist.all_to_all_single(sums, share.repeat(self._world), group=self._group)
        self.tensor.copy_(sums[: self.tensor.numel()])


class Receipt:
    """A tensor that one of two processes will receive from the other; made early, it arrives early.

    Args:
        size: How many numbers the tensor has.
        dtype: The tensor's dtype.
        group: The processes; by default all.
    """

    def __init__(self, size: int, dtype: torch.dtype, group: dist.ProcessGroup | None = None) -> None:
        self._tensor = torch.empty(size, dtype=dtype)
        self._work = dist.irecv(self._tensor, _other(group), group)

    def wait(self) -> Tensor:
        """Returns the tensor once it has arrived."""
        assert self._work is not None
        self._work.wait()
        return self._tensor


def sends_whole(group: dist.ProcessGroup | None) -> bool:
    """Returns whether each process sends its whole tensor: if there are two, and gloo connects them."""
    return dist.get_world_size(group) == 2 and dist.get_backend(group) == "gloo"


def _other(group: dist.ProcessGroup | None) -> int:
    """Returns the other one of two processes."""
    return next(rank for rank in dist.get_process_group_ranks(group) if rank != dist.get_rank())


class GradientSums:
    """The sums of a step's gradients, on their way between the backward pass and the optimizer.

    Args:
        group: The processes; by default all.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group = group
        self._sums: list[OrderedSum] = []
        self._receipts: deque[Receipt] = deque()
        self._buckets: list[tuple[int, torch.dtype]] = []  # sizes and dtypes in the last step
        self._settled = False  # whether the step before had the same buckets

    def expect(self) -> None:
        """Begins to receive the gradients of a new step; call it in all processes."""
        # The wrapper changes its buckets after its first step.
        if self._settled and sends_whole(self._group):
            self._receipts.extend(Receipt(size, dtype, self._group) for size, dtype in self._buckets)

    def hook(self, _: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
        """Sends a bucket of gradients: a communication hook of ``DistributedDataParallel``.

        The wrapper must have ``gradient_as_bucket_view=True``; it continues as if the sums had arrived.
        """
        receipt = self._receipts.popleft() if self._receipts else None
        self._sums.append(OrderedSum(bucket.buffer(), self._group, receipt))
        done: torch.futures.Future[Tensor] = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    def wait(self) -> None:
        """Waits for the sums and puts them into the parameters' gradients."""
        sums, self._sums = self._sums, []
        for each in sums:
            each.wait()
        buckets = [(each.tensor.numel(), each.tensor.dtype) for each in sums]
        self._settled, self._buckets = buckets == self._buckets, buckets
