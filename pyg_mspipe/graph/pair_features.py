"""What two nodes have done before a moment, together and each alone: features of a pair that need no learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pyg_mspipe.graph.pair_history import PairHistory
from pyg_mspipe.graph.temporal_csr import TemporalCSR


@dataclass(frozen=True)
class PairFeatures:
    """Features of pairs ``(u, v)``, three for each of four histories, of which a pair sees the events below its bound.

    The histories are the events from ``u`` to ``v``, those from ``v`` to ``u``, those of ``u`` and those of ``v``, in
    this order. The features of each are ``log(1 + elapsed / gap)``, where ``elapsed`` is the time since its last event;
    1 if it has no event, when the first feature is 0; and ``log(1 + number of events)``.

    A self-loop counts twice for its node, as in :class:`~pyg_mspipe.TemporalCSR`. Never changed, so any thread may ask.

    Attributes:
        pairs: The histories of pairs.
        csr: The histories of nodes, of the same events.
        gap: The unit of elapsed times, in the stream's unit.
    """

    pairs: PairHistory
    csr: TemporalCSR
    gap: float
    width: ClassVar[int] = 12

    @classmethod
    def from_stream(cls, csr: TemporalCSR, src: Tensor, dst: Tensor, train: range) -> PairFeatures:
        """Returns the features of pairs in a stream.

        The mean time between two events of training is the unit of elapsed times: most of these are longer, so that
        their logarithms tell them apart whatever the stream's own unit, and nothing of later parts is used.

        Args:
            csr: The stream's histories of nodes.
            src: Int64[E], of the same events.
            dst: Int64[E].
            train: The training events.
        """
        first, last = (int(csr.t[e_id]) for e_id in (train.start, train.stop - 1))
        # A training part of one moment has no unit; then any will do.
        gap = (last - first) / max(len(train) - 1, 1) or 1.0
        return cls(PairHistory.from_events(src, dst, csr.num_nodes), csr, gap)

    def __call__(self, src: Tensor, dst: Tensor, t: Tensor, bound: Tensor | int) -> Tensor:
        """Returns the features of pairs: Float32[C, B, 12].

        Args:
            src: Int64[B], one for all ``C`` pairs of an event, or Int64[C, B].
            dst: Int64[C, B].
            t: Int64[B], the moments that elapsed times are counted back from, in the stream's unit.
            bound: Int64[B] or one number for all, the first event that is not seen.
        """
        columns = [
            *self._of(self.pairs.key, self.pairs.find(src, dst, bound), t),
            *self._of(self.pairs.key, self.pairs.find(dst, src, bound), t),
            *self._of(self.csr.key, self.csr.history(src, bound), t),
            *self._of(self.csr.key, self.csr.history(dst, bound), t),
        ]
        return torch.stack([column.float().expand_as(dst) for column in columns], dim=-1)

    def _of(self, key: Tensor, entries: tuple[Tensor, Tensor], t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the three features of histories, each an interval of entries whose keys end with their event ids."""
        begin, end = entries
        never = begin == end
        last = key[(end - 1).clamp_(min=0)].remainder_(self.csr.num_events)
        # Integers until the difference is taken: float32 cannot hold epoch times.
        elapsed = (t - self.csr.t[last]).masked_fill_(never, 0)
        return elapsed.double().div_(self.gap).float().log1p_(), never, (end - begin).float().log1p_()
