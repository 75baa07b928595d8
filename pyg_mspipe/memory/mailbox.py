"""Mailboxes: for every node a ring of its last mails, as tables of a :class:`RowState`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_mspipe.memory.blank import zero_rows

MAIL, MAIL_TIME, RECEIVED = "mail", "mail_time", "received"
"""The tables: the mails, [N, M, mail_dim], their times, Int64[N, M], and how many a node has ever got, Int64[N]."""


@dataclass(frozen=True)
class Mails:
    """The mails that a batch delivers: one for each of ``R`` nodes.

    Attributes:
        n_id: Int64[R], unique, sorted: who gets one.
        mail: [R, mail_dim].
        t: Int64[R], the times of their events, in the stream's unit.
    """

    n_id: Tensor
    mail: Tensor
    t: Tensor

    def tensors(self) -> list[Tensor]:
        """Returns all tensors that it holds."""
        return [self.n_id, self.mail, self.t]


def mail_tables(num_nodes: int, num_mails: int, mail_dim: int, device: torch.device | None) -> dict[str, Tensor]:
    """Returns empty mailboxes.

    Args:
        num_nodes: Number of nodes ``N``.
        num_mails: Places of a mailbox, ``M``.
        mail_dim: Width of a mail.
        device: Where they are kept.
    """
    return {
        MAIL: zero_rows(num_nodes, num_mails, mail_dim, device=device),
        MAIL_TIME: zero_rows(num_nodes, num_mails, dtype=torch.long, device=device),
        RECEIVED: zero_rows(num_nodes, dtype=torch.long, device=device),
    }


def deliver(boxes: Mapping[str, Tensor], which: Tensor, mail: Tensor, t: Tensor) -> None:
    """Puts a mail into some boxes, each in place of its oldest where it is full.

    Args:
        boxes: The tables, or rows of them; written in place.
        which: Int64[R], unique: the rows that get a mail.
        mail: [R, mail_dim].
        t: Int64[R], the times of the mails' events, in the stream's unit.
    """
    received = boxes[RECEIVED].index_select(0, which)
    place = received % boxes[MAIL].size(1)
    boxes[MAIL].index_put_((which, place), mail.to(boxes[MAIL]))
    boxes[MAIL_TIME].index_put_((which, place), t.to(boxes[MAIL_TIME]))
    boxes[RECEIVED].index_copy_(0, which, received + 1)
