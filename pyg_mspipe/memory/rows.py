"""What is read from node memory for a batch, and what is written back: rows of named tables, opaque to a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from pyg_mspipe.memory.mailbox import MAIL, Mails, deliver
from pyg_mspipe.memory.mitigation import Repair


class Read(NamedTuple):
    """Rows that a batch reads.

    Attributes:
        table: The name of the table.
        n_id: Int64[M], whose rows; a node may stand there more than once.
    """

    table: str
    n_id: Tensor


@dataclass(frozen=True)
class MemoryRows:
    """All that was read from node memory for a batch.

    Attributes:
        reads: What each of ``values`` was read from, by name.
        values: The rows, [M, ...] each.
        repair: What was read to mitigate staleness; none where nothing was.
        missed: Int64[U], how many commits touched a node of the batch that the fetch did not see; none where no commit
            was missed.
    """

    reads: Mapping[str, Read]
    values: Mapping[str, Tensor]
    repair: Repair | None = None
    missed: Tensor | None = None

    def tensors(self) -> list[Tensor]:
        """Returns all tensors that it holds but for node ids."""
        repair = [] if self.repair is None else self.repair.tensors()
        return [*self.values.values(), *repair, *([] if self.missed is None else [self.missed])]

    def to(self, device: torch.device, *, non_blocking: bool = False) -> MemoryRows:
        """Returns the same on ``device``; with ``non_blocking`` it need not be there yet (see ``torch.Tensor.to``)."""

        def moved(x: Tensor) -> Tensor:
            return x.to(device, non_blocking=non_blocking)

        return MemoryRows(
            {name: read._replace(n_id=moved(read.n_id)) for name, read in self.reads.items()},
            {name: moved(x) for name, x in self.values.items()},
            None if self.repair is None else self.repair.to(device, non_blocking=non_blocking),
            None if self.missed is None else moved(self.missed),
        )


@dataclass(frozen=True)
class Commit:
    """The memory update of a batch: new rows of the ``C`` nodes that its events touch.

    Attributes:
        n_id: Int64[C], unique, sorted.
        rows: The new rows, [C, ...] each, by the name of their table.
        stop: The id of the event after the batch's last one.
        before: [C, memory_dim], the rows that the new ones were computed from; kept where a mitigation asks for it.
        mails: What the batch delivers to mailboxes, of other nodes too; none where there are no mailboxes.
    """

    n_id: Tensor
    rows: Mapping[str, Tensor]
    stop: int
    before: Tensor | None = None
    mails: Mails | None = None

    def tensors(self) -> list[Tensor]:
        """Returns all tensors that it holds."""
        mails = [] if self.mails is None else self.mails.tensors()
        return [self.n_id, *self.rows.values(), *([] if self.before is None else [self.before]), *mails]


def catch_up(rows: MemoryRows, commit: Commit) -> MemoryRows:
    """Returns rows as a fetch right after a commit would have given them; the rows given are written over.

    As a processor forwards a result to the next instruction before it is written back, a commit that is still on its
    way to node memory is applied to the rows that missed it.

    Args:
        rows: Fetched when all commits before this one were applied, or brought up to there since.
        commit: The next one; on the rows' device.
    """
    for name, read in rows.reads.items():
        written = commit.rows.get(read.table)
        if written is not None:
            which, position = find(read.n_id, commit.n_id)
            rows.values[name].index_copy_(0, which, written.index_select(0, position))
    mails = commit.mails
    if mails is not None and MAIL in rows.reads:
        which, position = find(rows.reads[MAIL].n_id, mails.n_id)
        deliver(rows.values, which, mails.mail.index_select(0, position), mails.t.index_select(0, position))
    return rows


def count_missed(n_id: Tensor, commits: list[Tensor]) -> Tensor:
    """Returns how many of some commits wrote each node: Int64[U].

    Args:
        n_id: Int64[U], unique, sorted.
        commits: The nodes of each commit, unique, on the same device.
    """
    missed = torch.zeros_like(n_id)
    for touched in commits:
        _, position = find(touched, n_id)
        missed[position] += 1
    return missed


def find(nodes: Tensor, n_id: Tensor) -> tuple[Tensor, Tensor]:
    """Returns which of ``nodes`` are in ``n_id``, and where: Int64[H] each, positions in the two.

    Args:
        nodes: Int64[M].
        n_id: Int64[U], unique, sorted.
    """
    if not n_id.numel():
        return nodes[:0], nodes[:0]
    position = torch.searchsorted(n_id, nodes).clamp_(max=n_id.numel() - 1)
    which = (n_id.index_select(0, position) == nodes).nonzero().view(-1)
    return which, position.index_select(0, which)


def with_missed(rows: MemoryRows, missed: Tensor) -> MemoryRows:
    """Returns rows that say how many commits each node's has missed: Int64[U]."""
    return replace(rows, missed=missed)
