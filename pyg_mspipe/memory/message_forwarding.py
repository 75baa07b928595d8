"""Forwarding to a memory that stores its messages: rows and messages take over what commits have written since.

As a processor hands a result to the next instruction before it is written back, a commit that is still on its way to
node memory is applied to the rows that missed it. The rows are then those that a fetch after the commit would have
given, bit for bit. Times must not decrease from one commit to the next, as they do not in a stream.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pyg_mspipe.memory.message_rows import MessageCommit, MessageRows
from pyg_mspipe.memory.messages import LatestMessages, PendingMessages, TieRule, latest_by_end
from pyg_mspipe.memory.rows import find


def forward_commit(rows: MessageRows, commit: MessageCommit, tie: TieRule) -> MessageRows:
    """Returns the rows as a fetch right after ``commit`` would have given them. The rows given are written over.

    Args:
        rows: Fetched when all commits before this one were applied, or forwarded since; ``n_id`` sorted.
        commit: The next one; on the rows' device.
        tie: How the message store breaks ties.
    """
    written, position = find(commit.n_id, rows.n_id)
    rows.memory.index_copy_(0, position, commit.memory.index_select(0, written))
    rows.last_update.index_copy_(0, position, commit.last_update.index_select(0, written))
    messages: LatestMessages | PendingMessages
    if isinstance(rows.messages, LatestMessages):
        messages = _replace_latest(rows.messages, position, written, commit, tie)
        other = rows.other
    else:
        messages, other = _replace_pending(rows.messages, rows.other, rows.n_id, commit)
    end, written = find(messages.other, commit.n_id)
    other = other.index_copy(0, end, commit.memory.index_select(0, written))
    return replace(rows, messages=messages, other=other)


def _replace_latest(
    old: LatestMessages, position: Tensor, written: Tensor, commit: MessageCommit, tie: TieRule
) -> LatestMessages:
    """Returns the latest messages once a commit's have replaced those of its nodes, role by role.

    Of a node's two roles only the winner's message was fetched. That is enough: where the commit replaces the winner,
    its message is no earlier than the loser's, and by the rule on ties it wins too.
    """
    size = commit.n_id.numel()
    event = commit.src.new_full((2 * size,), -1)
    ends, latest = latest_by_end(commit.local_src, commit.local_dst, commit.t, size, tie)
    event[ends] = latest
    as_src, as_dst = event[:size].index_select(0, written), event[size:].index_select(0, written)
    new_src, new_dst = as_src >= 0, as_dst >= 0

    valid, was_source, t = (x.index_select(0, position) for x in (old.valid, old.is_source, old.t))
    t_src = torch.where(new_src, commit.t[as_src.clamp(min=0)], t)
    t_dst = torch.where(new_dst, commit.t[as_dst.clamp(min=0)], t)
    has_src, has_dst = new_src | (valid & was_source), new_dst | (valid & ~was_source)
    if tie == "event":
        # A message of before the commit is older than all of the commit's.
        newer = torch.where(new_src, as_src, -1) > torch.where(new_dst, as_dst, -1)
        later = (t_src > t_dst) | ((t_src == t_dst) & newer)
    else:
        later = t_src > t_dst if tie == "last" else t_src >= t_dst
    is_source = has_src & (later | ~has_dst)
    fresh = torch.where(is_source, new_src, new_dst).nonzero().view(-1)

    at, is_source = position[fresh], is_source[fresh]
    sent = torch.where(is_source, as_src[fresh], as_dst[fresh])
    return LatestMessages(
        valid=old.valid.index_fill(0, at, True),
        is_source=old.is_source.index_copy(0, at, is_source),
        other=old.other.index_copy(0, at, torch.where(is_source, commit.dst[sent], commit.src[sent])),
        t=old.t.index_copy(0, at, commit.t[sent]),
        raw_msg=old.raw_msg.index_copy(0, at, commit.raw_msg.index_select(0, sent)),
    )


def _replace_pending(
    old: PendingMessages, other: Tensor, n_id: Tensor, commit: MessageCommit
) -> tuple[PendingMessages, Tensor]:
    """Returns all messages once a commit's have replaced those of its nodes, and the rows at their other ends.

    Rows of new messages are left to be filled in: the nodes at their ends are the commit's own.
    """
    roles = []
    for part, own, end in (
        (slice(None, old.num_source), commit.src, commit.dst),
        (slice(old.num_source, None), commit.dst, commit.src),
    ):
        event, row = find(own, n_id)
        replaced = torch.zeros_like(n_id, dtype=torch.bool).index_fill_(0, row, True)
        keep = (~replaced[old.row[part]]).nonzero().view(-1)
        joined, order = torch.cat([old.row[part][keep], row]).sort(stable=True)
        pairs = (
            (old.other[part], end),
            (old.t[part], commit.t),
            (old.raw_msg[part], commit.raw_msg),
        )
        fields = [torch.cat([kept[keep], sent[event]])[order] for kept, sent in pairs]
        blank = other.new_zeros(event.numel(), other.size(1))
        roles.append((joined, *fields, torch.cat([other[part][keep], blank])[order]))
    row, ends, t, raw_msg, rows = (torch.cat(pair) for pair in zip(*roles, strict=True))
    return PendingMessages(row, ends, t, raw_msg, roles[0][0].numel()), rows
