"""Random destinations, none of them twice and none of them true."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import torch

from pyg_mspipe.data.negatives import Negatives, Positives, generator_seed
from pyg_mspipe.tasks.protocols.draw import draw_outside
from pyg_mspipe.tasks.protocols.met import TrueDestinations


@dataclass(frozen=True)
class RandomNegatives:
    """Draws for each event distinct destinations of ``[low, high]``, both ends included, and never the event's own.

    A function of seed, epoch, batch and the batch's events. Where there are fewer such destinations than ``num``, an
    event gets all of them.

    Attributes:
        low: The smallest id to draw.
        high: The largest id to draw.
        num: Negatives for each event.
        seed: One or several non-negative integers.
        met: With it the draw is filtered: no destination that the source truly meets at the event's time is drawn.

    Example:
        >>> from pyg_mspipe import synthetic
        >>> from pyg_mspipe.data import Positives
        >>> from pyg_mspipe.tasks.protocols import RandomNegatives
        >>> data = synthetic(500)
        >>> draw = RandomNegatives(int(data.dst.min()), int(data.dst.max()), 20, seed=0)
        >>> draw(Positives.of(data, range(400, 450))).dst.shape
        torch.Size([20, 50])
    """

    low: int
    high: int
    num: int
    _: KW_ONLY
    seed: int | tuple[int, ...]
    met: TrueDestinations | None = None

    def __post_init__(self) -> None:
        check_draw(self.low, self.high, self.num)

    def __call__(self, positives: Positives, /) -> Negatives:
        """Returns the negatives of events, ``num`` for each or as many as the range holds, on the CPU.

        Args:
            positives: The events.
        """
        generator = torch.Generator().manual_seed(generator_seed(self.seed, positives.epoch, positives.batch))
        # No more rows than there are destinations: each costs a score, even where it has none.
        num = torch.full((len(positives),), min(self.num, self.high - self.low + 1))
        dst = draw_outside(self.low, self.high, num, *true_of(positives, self.met), generator).t().contiguous()
        return Negatives(dst, padded=bool((dst < 0).any()))


def true_of(positives: Positives, met: TrueDestinations | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns ``(row, dst)``: Int64[F] each, what is no negative of each of ``B`` events.

    Args:
        positives: The events.
        met: The true destinations; without them that is only the event's own.
    """
    row, dst = torch.arange(len(positives)), positives.dst.cpu()
    if met is None:
        return row, dst
    others, met_then = met.of(positives.src.cpu(), positives.t.cpu())
    return torch.cat([row, others]), torch.cat([dst, met_then])


def check_draw(low: int, high: int, num: int) -> None:
    """Refuses a range of ids that holds none, and a number of negatives below 1.

    Args:
        low: The smallest id to draw.
        high: The largest id to draw.
        num: Negatives for each event.

    Raises:
        ValueError: If it is one of these.
    """
    if not 0 <= low <= high:
        raise ValueError(f"no ids to draw between low {low} and high {high}; give 0 <= low <= high")
    if num < 1:
        raise ValueError(f"num={num} negatives for each event; give at least 1")
