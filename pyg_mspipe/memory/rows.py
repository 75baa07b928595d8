"""What is read from node memory for a batch, and what is written back: rows of named tables, opaque to a pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from pyg_mspipe.data.tensor_tree import map_tensors
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
        met: Where the nodes of commits that may be missed stand, two Int64[H] each, see :attr:`MemoryPlan.met`.
    """

    reads: Mapping[str, Read]
    values: Mapping[str, Tensor]
    repair: Repair | None = None
    missed: Tensor | None = None
    met: Mapping[int, Mapping[str, tuple[Tensor, Tensor]]] = field(default_factory=dict)

    def tensors(self) -> list[Tensor]:
        """Returns all tensors that it holds but for node ids."""
        repair = [] if self.repair is None else self.repair.tensors()
        return [*self.values.values(), *repair, *([] if self.missed is None else [self.missed])]


@dataclass(frozen=True)
class Commit:
    """The memory update of a batch: new rows of the ``C`` nodes that its events touch.

    Attributes:
        n_id: Int64[C], unique, sorted.
        rows: The new rows, [C, ...] each, by the name of their table.
        stop: The id of the event after the batch's last one.
        before: [C, memory_dim], the rows that the new ones were computed from; kept where a mitigation asks for it.
        mails: What the batch delivers to mailboxes, of other nodes too; none where there are no mailboxes.
        ends: Int64[C], the ends of the batch's events, all of them: ``n_id`` itself where the update is of these.
    """

    n_id: Tensor
    rows: Mapping[str, Tensor]
    stop: int
    before: Tensor | None = None
    mails: Mails | None = None
    ends: Tensor | None = None

    def tensors(self) -> list[Tensor]:
        """Returns all tensors that it holds."""
        mails = [] if self.mails is None else self.mails.tensors()
        return [self.n_id, *self.rows.values(), *([] if self.before is None else [self.before]), *mails]

    @property
    def is_of_ends(self) -> bool:
        """Whether it is of the ends of the batch's events, all of them."""
        return self.ends is self.n_id

    def first(self, size: int, mails: int) -> Commit:
        """Returns the update of the first nodes alone, where the others stand in for nothing.

        Args:
            size: How many nodes.
            mails: How many of the mails.
        """
        own = replace(self, mails=None)
        cut = map_tensors(own, lambda x: x[:size])
        return replace(cut, mails=map_tensors(self.mails, lambda x: x[:mails]))


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
            which, position = meeting(rows, name, commit)
            rows.values[name].index_copy_(0, which, written.index_select(0, position))
    mails = commit.mails
    if mails is not None and MAIL in rows.reads:
        which, position = find(rows.reads[MAIL].n_id, mails.n_id)
        deliver(rows.values, which, mails.mail.index_select(0, position), mails.t.index_select(0, position))
    return rows


def count_missed(n_id: Tensor, commits: Iterable[Tensor]) -> Tensor:
    """Returns how many of some commits wrote each node: Int64[U].

    Args:
        n_id: Int64[U], unique, sorted.
        commits: Positions in ``n_id`` of the nodes of each commit, unique.
    """
    missed = torch.zeros_like(n_id)
    for position in commits:
        missed.index_add_(0, position, torch.ones_like(position))
    return missed


def meeting(rows: MemoryRows, name: str, commit: Commit) -> tuple[Tensor, Tensor]:
    """Returns which rows of a read are of nodes that a commit writes, and where these stand in it: Int64[H] each.

    Args:
        rows: What was read.
        name: The read's.
        commit: The commit, on the rows' device.
    """
    known = rows.met.get(commit.stop, {}).get(name) if commit.is_of_ends else None
    return find(rows.reads[name].n_id, commit.n_id) if known is None else known


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
