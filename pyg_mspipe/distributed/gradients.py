"""The gradients of all trainers, added up in the order of their ranks while something else is done.

The sum of floating-point numbers depends on the order. With one order for every backend and number of hosts, a run
gives the same losses wherever it runs, and an emulation of it can too.
"""

# Annotations are not postponed here, as torch looks at those of the hook.

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
    """

    def __init__(self, tensor: Tensor, group: dist.ProcessGroup | None = None) -> None:
        self._tensor = tensor
        self._group = group
        self._world = dist.get_world_size(group)
        size = tensor.numel()
        if self._world == 2:
            # Half of it there and the sum back would be as many bytes, but one after the other.
            sizes = [0, size] if dist.get_rank(group) == 0 else [size, 0]
            self._received = torch.empty_like(tensor)
            self._work = dist.all_to_all_single(self._received, tensor, sizes, sizes, group, async_op=True)
        else:
            padded = F.pad(tensor, (0, -size % self._world))
            self._received = torch.empty_like(padded)
            self._work = dist.all_to_all_single(self._received, padded, group=group, async_op=True)

    def wait(self) -> None:
        """Puts the sum in the tensor's place."""
        assert self._work is not None
        self._work.wait()
        if self._world == 2:
            self._tensor += self._received  # which of two comes first makes no difference
            return
        share = add_in_order(self._received.view(self._world, -1).unbind())
        sums = torch.empty_like(self._received)
        dist.all_to_all_single(sums, share.repeat(self._world), group=self._group)
        self._tensor.copy_(sums[: self._tensor.numel()])


class GradientSums:
    """Gradients on their way, from the end of a backward pass until the optimizer needs them."""

    def __init__(self) -> None:
        self._sums: list[OrderedSum] = []

    def hook(self, group: dist.ProcessGroup | None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
        """Sends a bucket of gradients off, as a communication hook of ``DistributedDataParallel``.

        The wrapper must have ``gradient_as_bucket_view=True``, and goes on as if the sums were there.
        """
        self._sums.append(OrderedSum(bucket.buffer(), group))
        done: torch.futures.Future[Tensor] = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    def wait(self) -> None:
        """Puts the sums where the parameters have their gradients."""
        sums, self._sums = self._sums, []
        for each in sums:
            each.wait()
