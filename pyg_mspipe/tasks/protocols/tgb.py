"""TGB's rule of negatives, ``hist_rnd``, for any stream."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyg_mspipe.data.negatives import generator_seed
from pyg_mspipe.tasks.protocols.candidates import Candidates, stream_digest
from pyg_mspipe.tasks.protocols.draw import BLOCK, draw_distinct, draw_outside
from pyg_mspipe.tasks.protocols.met import TrueDestinations
from pyg_mspipe.tasks.protocols.spans import items

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData


def tgb_candidates(
    data: TemporalData, train: range, events: range, num: int, *, seed: int | tuple[int, ...]
) -> Candidates:
    """Returns negatives by the rule of TGB (Huang et al., NeurIPS 2023), as py-tgb's ``NegativeEdgeGenerator`` has it.

    An event ``(u, v, t)`` gets

    * at most ``num // 2`` *historical* ones: destinations of ``u`` in training events, without those that ``u`` meets
      at ``t`` among ``events``;
    * *random* ones up to ``num``: of the range of all destinations of the stream, without those that ``u`` meets at
      ``t`` and without all destinations of ``u`` in training.

    None comes twice, historical ones come first, and where there are too few the list is shorter. Events with the same
    ``u``, ``v`` and ``t`` have the same list. py-tgb draws other numbers, and for one event after the other.

    Args:
        data: The stream.
        train: The training events.
        events: The events to make lists for.
        num: Negatives for each event.
        seed: One or several non-negative integers.

    Raises:
        ValueError: If ``num`` is below 1.
    """
    if num < 1:
        raise ValueError(f"num={num} negatives for each event; give at least 1")
    rule = _Rule(data, train, events, num, torch.Generator().manual_seed(generator_seed(seed)))
    count, dst, end = torch.zeros(len(events) + 1).long(), torch.empty(len(events) * num, dtype=rule.dtype), 0
    for block in torch.arange(len(events)).split(max(BLOCK // num, 1)):
        count[block + 1], drawn = rule.lists(block)
        dst[end : end + drawn.numel()] = drawn
        end += drawn.numel()
    ptr = count.cumsum(0)
    entry = rule.met.find(rule.src, rule.t, rule.dst)
    first = torch.full_like(rule.met.triple, len(events))
    first = first.scatter_reduce_(0, entry, torch.arange(len(events)), "amin")[entry]
    again = (first != torch.arange(len(events))).nonzero().squeeze(1)
    dst[items(ptr[again], ptr[again + 1])[1]] = dst[items(ptr[first[again]], ptr[first[again] + 1])[1]]
    return Candidates(events.start, ptr, dst[:end])


class _Rule:
    """The rule for some events.

    Attributes:
        src: Int64[n], of the events.
        dst: Int64[n].
        t: Int64[n].
        met: Their true destinations.
    """

    def __init__(self, data: TemporalData, train: range, events: range, num: int, generator: torch.Generator) -> None:
        src, dst, t = data.src.cpu(), data.dst.cpu(), data.t.cpu()
        part, seen = slice(events.start, events.stop), slice(train.start, train.stop)
        self.src, self.dst, self.t = src[part], dst[part], t[part]
        self.met = TrueDestinations.from_events(self.src, self.dst, self.t)
        self.low, self.high = int(dst.min()), int(dst.max())
        self.num, self.generator = num, generator
        self.num_nodes = max(int(src.max()), self.high) + 1
        self.pair = (src[seen] * self.num_nodes + dst[seen]).unique()
        self.dtype = torch.int32 if self.num_nodes < 2**31 else torch.int64

    def lists(self, block: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the lists of a block of the events: their lengths, Int64[b], and their destinations one by one."""
        src, t = self.src[block], self.t[block]
        begin = torch.searchsorted(self.pair, src * self.num_nodes)
        row, at = items(begin, torch.searchsorted(self.pair, (src + 1) * self.num_nodes))
        seen = self.pair[at].remainder(self.num_nodes)
        free = ~self.met.contains(src[row], t[row], seen)
        historical, count = seen[free], torch.bincount(row[free], minlength=src.numel())
        rank = draw_distinct(count, torch.full_like(count, self.num // 2), self.generator)
        at = torch.where(rank < 0, historical.numel(), rank + (count.cumsum(0) - count)[:, None])
        chosen = torch.cat([historical, historical.new_full((1,), -1)])[at]
        others, true = self.met.of(src, t)
        wanted = self.num - count.clamp(max=self.num // 2)
        forbidden = torch.cat([row, others]), torch.cat([seen, true])
        drawn = torch.cat([chosen, draw_outside(self.low, self.high, wanted, *forbidden, self.generator)], dim=1)
        there = drawn >= 0
        return there.sum(dim=1), drawn[there]


def saved_tgb_candidates(
    data: TemporalData, train: range, events: range, num: int, *, seed: int | tuple[int, ...], path: Path
) -> Candidates:
    """Returns what :func:`tgb_candidates` does: from a file, which is made where there is none.

    Args:
        data: The stream.
        train: The training events.
        events: The events to make lists for.
        num: Negatives for each event.
        seed: One or several non-negative integers.
        path: The file, in a folder that exists.

    Raises:
        StreamError: If the file is there and was made for another stream or with other arguments, or is damaged.
        OSError: If it cannot be written.
    """
    about: dict[str, int | str] = {"stream": stream_digest(data), "rule": "hist_rnd", "num": num, "seed": str(seed)}
    about |= {"train_events": f"{train.start}:{train.stop}", "events": f"{events.start}:{events.stop}"}
    if path.exists():
        return Candidates.load(path, about)
    candidates = tgb_candidates(data, train, events, num, seed=seed)
    candidates.save(path, about)
    return candidates
