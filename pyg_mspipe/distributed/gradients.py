"""The gradients of all trainers, added up in the order of their ranks while something else is done.

The sum of floating-point numbers depends on the order. With one order for every backend and number of hosts, a run
gives the same losses wherever it runs, and an emulation of it can too.
"""

# Annotations are not postponed here, as torch looks at those of the hook.

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
    """A tensor that is being added up over all ranks, in their order.

    As many bytes go over the wire as a ring's all-reduce takes.

    Args:
        tensor: [n], of the same size on all ranks; must be left alone until :meth:`wait` has put the sum there.
        group: By default all processes.
        receipt: What two processes receive each other's tensor with, if that was made ready before.
    """

    def __init__(
        self, tensor: Tensor, group: dist.ProcessGroup | None = None, receipt: "Receipt | None" = None
    ) -> None:
        self.tensor = tensor
        self._group = group
        self._world = dist.get_world_size(group)
        self._receipt = receipt
        if sends_whole(group):
            # Half of it there and the sum back would be as many bytes, but one after the other.
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
            self.tensor += received  # which of two comes first makes no difference
            return
        self._work.wait()
        share = add_in_order(self._received.view(self._world, -1).unbind())
        sums = torch.empty_like(self._received)
        dist.all_to_all_single(sums, share.repeat(self._world), group=self._group)
        self.tensor.copy_(sums[: self.tensor.numel()])


class Receipt:
    """A tensor that one of two processes waits for from the other: the sooner it is made ready, the sooner it is there.

    Args:
        size: Of the tensor, which has one dimension.
        dtype: Of the tensor.
        group: By default all processes.
    """

    def __init__(self, size: int, dtype: torch.dtype, group: dist.ProcessGroup | None = None) -> None:
        self._tensor = torch.empty(size, dtype=dtype)
        self._work = dist.irecv(self._tensor, _other(group), group)

    def wait(self) -> Tensor:
        """Returns the tensor once it is there."""
        assert self._work is not None
        self._work.wait()
        return self._tensor


def sends_whole(group: dist.ProcessGroup | None) -> bool:
    """Returns whether each process sends its tensor as it is: where there are two, by gloo."""
    return dist.get_world_size(group) == 2 and dist.get_backend(group) == "gloo"


def _other(group: dist.ProcessGroup | None) -> int:
    """Returns the other one of two processes."""
    return next(rank for rank in dist.get_process_group_ranks(group) if rank != dist.get_rank())


class GradientSums:
    """Gradients on their way, from the end of a backward pass until the optimizer needs them.

    Args:
        group: By default all processes.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group = group
        self._sums: list[OrderedSum] = []
        self._receipts: deque[Receipt] = deque()
        self._buckets: list[tuple[int, torch.dtype]] = []  # of the last step
        self._settled = False  # whether the step before that had the same

    def expect(self) -> None:
        """Makes ready to receive the gradients of a step that begins; to be called in all processes."""
        # The wrapper puts gradients into other buckets after its first step.
        if self._settled and sends_whole(self._group):
            self._receipts.extend(Receipt(size, dtype, self._group) for size, dtype in self._buckets)

    def hook(self, _: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
        """Sends a bucket of gradients off, as a communication hook of ``DistributedDataParallel``.

        The wrapper must have ``gradient_as_bucket_view=True``, and goes on as if the sums were there.
        """
        receipt = self._receipts.popleft() if self._receipts else None
        self._sums.append(OrderedSum(bucket.buffer(), self._group, receipt))
        done: torch.futures.Future[Tensor] = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    def wait(self) -> None:
        """Puts the sums where the parameters have their gradients."""
        sums, self._sums = self._sums, []
        for each in sums:
            each.wait()
        buckets = [(each.tensor.numel(), each.tensor.dtype) for each in sums]
        self._settled, self._buckets = buckets == self._buckets, buckets
