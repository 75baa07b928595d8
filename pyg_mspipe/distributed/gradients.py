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
    """The sum of a tensor over all ranks, added in their order, on its way.

    As many bytes go over the wire as a ring's all-reduce takes.

    Args:
        tensor: [n], of the same size on all ranks.
        group: By default all processes.
    """

    def __init__(self, tensor: Tensor, group: dist.ProcessGroup | None = None) -> None:
        self._size = tensor.numel()
        self._group = group
        self._world = dist.get_world_size(group)
        # Two that send each other everything send no more than each half there and back, but once.
        sent = tensor.repeat(self._world) if self._world <= 2 else F.pad(tensor, (0, -self._size % self._world))
        self._received = torch.empty_like(sent)
        self._work = dist.all_to_all_single(self._received, sent, group=group, async_op=True)

    def wait(self) -> Tensor:
        """Returns the sum: [n]."""
        assert self._work is not None
        self._work.wait()
        total = add_in_order(self._received.view(self._world, -1).unbind())
        if self._world > 2:
            own, total = total.repeat(self._world), torch.empty_like(self._received)
            dist.all_to_all_single(total, own, group=self._group)
        return total[: self._size]


class GradientSums:
    """Gradients on their way, from the end of a backward pass until the optimizer needs them."""

    def __init__(self) -> None:
        self._sums: list[tuple[Tensor, OrderedSum]] = []

    def hook(self, group: dist.ProcessGroup | None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
        """Sends a bucket of gradients off, as a communication hook of ``DistributedDataParallel``.

        The wrapper must have ``gradient_as_bucket_view=True``, and goes on as if the gradients were there.
        """
        buffer = bucket.buffer()
        self._sums.append((buffer, OrderedSum(buffer, group)))
        done: torch.futures.Future[Tensor] = torch.futures.Future()
        done.set_result(buffer)
        return done

    def wait(self) -> None:
        """Puts the sums where the parameters have their gradients."""
        sums, self._sums = self._sums, []
        for buffer, each in sums:
            buffer.copy_(each.wait())
