"""Draws without replacement, for many rows at once."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 2**21
"""How many numbers are drawn at once: 16 MB."""

# A row that wants more than a quarter of its numbers has all of them shuffled; another one draws, and draws again what
# it has already.
_DENSE = 4


def draw_distinct(available: Tensor, num: Tensor, generator: torch.Generator) -> Tensor:
    """Returns distinct numbers for each row in random order, any such choice as likely as any other: Int64[B, K].

    ``K`` is the largest of ``num``. A row that has fewer numbers than it wants gets all of them; -1 stands behind them.

    Args:
        available: Int64[B]: a row's numbers are ``0..available - 1``, fewer than 2^47.
        num: Int64[B], how many each row wants.
        generator: Is moved on.
    """
    out = torch.full((num.numel(), int(num.max()) if num.numel() else 0), -1)
    num = torch.minimum(num, available)
    dense = available <= _DENSE * num
    for which, draw, widths in ((dense, _shuffled, available), (~dense, _drawn_again, num)):
        rows = (which & (num > 0)).nonzero().squeeze(1)
        if not rows.numel():
            continue
        for block in rows.split(max(BLOCK // int(widths[rows].max()), 1)):
            found = draw(available[block], num[block], generator)
            out[block, : found.size(1)] = found
    return out


def _shuffled(available: Tensor, num: Tensor, generator: torch.Generator) -> Tensor:
    """Draws by sorting all numbers of each row by random keys: O(available) for each row."""
    width = int(available.max())
    bits, column = max(width - 1, 1).bit_length(), torch.arange(width)
    # A number is the end of its own key, so that plain sorting gives it: numpy's is several times as fast as argsort.
    key = torch.randint(2 ** (62 - bits), (available.numel(), width), generator=generator)
    key = key.bitwise_left_shift_(bits).bitwise_or_(column)
    key[column >= available[:, None]] = torch.iinfo(torch.int64).max
    key.numpy().sort(axis=1)
    out = key[:, : int(num.max())].bitwise_and(2**bits - 1)
    return out.masked_fill_(column[: out.size(1)] >= num[:, None], -1)


def _drawn_again(available: Tensor, num: Tensor, generator: torch.Generator) -> Tensor:
    """Draws with replacement, and again what came twice, until nothing does: O(num log num) for each row."""
    column = torch.arange(int(num.max()))
    # Of 2^62 equally likely numbers, the remainders are equally likely as far as anybody could tell.
    out = torch.randint(2**62, (num.numel(), column.numel()), generator=generator) % available[:, None]
    out = torch.where(column < num[:, None], out, -1 - column)
    rows = torch.arange(num.numel())
    while rows.numel():
        # Which of two equals is drawn again does not depend on what they are, so no choice is preferred.
        ordered, position = out[rows].sort(dim=1, stable=True)
        again, later = (ordered[:, 1:] == ordered[:, :-1]).nonzero(as_tuple=True)
        row = rows[again]
        fresh = torch.randint(2**62, (row.numel(),), generator=generator) % available[row]
        out[row, position[again, later + 1]] = fresh
        rows = row.unique()
    return out.clamp_(min=-1)


def draw_outside(
    low: int, high: int, num: Tensor, row: Tensor, forbidden: Tensor, generator: torch.Generator
) -> Tensor:
    """Returns distinct numbers of ``[low, high]`` for each row, without those that are forbidden to it: Int64[B, K].

    As :func:`draw_distinct` otherwise. With ``B`` rows, ``B * (high - low + 1)`` is below 2^63.

    Args:
        low: The smallest number.
        high: The largest number; ``low - 1`` where there is none.
        num: Int64[B], how many each row wants.
        row: Int64[F], for each forbidden number the row that it is forbidden to.
        forbidden: Int64[F], in any order; it may hold a number twice, and numbers that are not in the range.
        generator: Is moved on.
    """
    size = high - low + 1
    if not size:
        return draw_distinct(torch.zeros_like(num), num, generator)
    inside = (forbidden >= low) & (forbidden <= high)
    key = (row[inside] * size + (forbidden[inside] - low)).unique()
    row = key.div(size, rounding_mode="floor")
    count = torch.bincount(row, minlength=num.numel())
    begin = count.cumsum(0) - count
    rank = draw_distinct(size - count, num, generator)
    # The number of rank r is r plus how many forbidden ones lie below it: the i-th forbidden number f, counted from 0,
    # does where f - i <= r.
    skipped = key - (torch.arange(key.numel()) - begin[row])
    for rows in torch.arange(num.numel()).split(max(BLOCK // max(rank.size(1), 1), 1)):
        part = rank[rows]
        wanted = rows[:, None] * size + part
        below = torch.searchsorted(skipped, wanted, right=True) - begin[rows, None]
        rank[rows] = torch.where(part < 0, -1, part + below + low)
    return rank
