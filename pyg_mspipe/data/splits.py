"""Chronological splits of a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pyg_mspipe.data.errors import StreamError

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData

_FLOAT32_WHOLE, _FLOAT64_WHOLE = 2**24, 2**53  # what holds every whole number up to here


@dataclass(frozen=True)
class StreamSplit:
    """Three consecutive ranges of event ids that together cover a stream.

    Attributes:
        train: Events to train on, from event 0.
        val: Events to choose a model by.
        test: Events to report on, to the last one.
    """

    train: range
    val: range
    test: range


def split_stream(
    data: TemporalData | Mapping[str, Tensor],
    *,
    val_ratio: float = 0.15,
    test_ratio: float = 0.15,
    val_time: int | None = None,
    test_time: int | None = None,
) -> StreamSplit:
    """Returns the stream split by time, by fraction or at two given times; events of the same time stay together.

    The fractions are quantiles of `t`, the rule of PyG's `TemporalData.train_val_test_split` and of TGB. PyG compares
    times as float32. As long as float32 holds all times exactly, up to 2**24, the boundaries are the same as PyG's.
    Beyond that, for example with epoch seconds, float32 rounds PyG's boundaries; those given here stay exact, as in
    TGB.

    Args:
        data: A stream as `check_stream` returns it, or its fields, with `t: Int64[E]` among them.
        val_ratio: The fraction of events for validation.
        test_ratio: The fraction of events for the test.
        val_time: The first time of the validation events, in the unit of `t`; replaces the fractions.
        test_time: The first time of the test events; goes with `val_time`.

    Raises:
        StreamError: If the fractions are out of range, both forms are mixed, or a split has no events.

    Example:
        >>> import torch
        >>> from torch_geometric.data import TemporalData
        >>> from pyg_mspipe import split_stream
        >>> t = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 7, 9])
        >>> data = TemporalData(src=torch.zeros(10).long(), dst=torch.ones(10).long(), t=t)
        >>> split_stream(data, val_time=5, test_time=7)
        StreamSplit(train=range(0, 5), val=range(5, 7), test=range(7, 10))
    """
    t: Tensor = data["t"]
    if val_time is None and test_time is None:
        val_start, test_start = _starts_by_fraction(t, val_ratio, test_ratio)
        mend = "change val_ratio and test_ratio, or give val_time and test_time"
    elif val_time is None or test_time is None:
        given, absent = ("test_time", "val_time") if val_time is None else ("val_time", "test_time")
        raise StreamError(f"{given} is given without {absent}; give both times, or neither and use fractions")
    elif (val_ratio, test_ratio) != (0.15, 0.15):
        raise StreamError("both fractions and times are given; leave out either val_ratio and test_ratio or the times")
    elif val_time > test_time:
        raise StreamError(f"val_time {val_time} lies after test_time {test_time}; swap them")
    else:
        val_start, test_start = torch.searchsorted(t, t.new_tensor([val_time, test_time])).tolist()
        mend = "move val_time and test_time"
    split = StreamSplit(range(val_start), range(val_start, test_start), range(test_start, len(t)))
    for name, events in (("training", split.train), ("validation", split.val), ("test", split.test)):
        if not events:
            raise StreamError(
                f"the {name} split has no events: {len(t)} events between times {int(t[0])} and {int(t[-1])} split "
                f"into {len(split.train)}, {len(split.val)} and {len(split.test)}; {mend}"
            )
    return split


def _starts_by_fraction(t: Tensor, val_ratio: float, test_ratio: float) -> tuple[int, int]:
    for name, ratio in (("val_ratio", val_ratio), ("test_ratio", test_ratio)):
        if not 0.0 < ratio < 1.0:
            raise StreamError(f"{name} is {ratio}; give a fraction between 0 and 1, such as 0.15")
    if val_ratio + test_ratio >= 1.0:
        raise StreamError(
            f"val_ratio {val_ratio} and test_ratio {test_ratio} leave nothing to train on; their sum must be below 1"
        )
    shares, largest = [1.0 - val_ratio - test_ratio, 1.0 - test_ratio], max(-int(t[0]), int(t[-1]))
    if largest > _FLOAT64_WHOLE:
        val_start, test_start = (
            int(torch.searchsorted(t, t.new_tensor([_quantile(t, share)]), right=True)) for share in shares
        )
        return val_start, test_start
    last = np.array([_sorted_quantile(t, share) for share in shares])
    if largest <= _FLOAT32_WHOLE:
        last = last.astype(np.float32)
    # t is whole, so that t <= x is t <= floor(x), which stays exact in int64
    val_start, test_start = torch.searchsorted(t, t.new_tensor(np.floor(last).astype(np.int64)), right=True).tolist()
    return val_start, test_start


def _sorted_quantile(t: Tensor, share: float) -> float:
    """Returns numpy's quantile of sorted times, which is one of the two around its place."""
    place = share * (t.numel() - 1)
    low = int(place)
    around = [int(t[low]), int(t[min(low + 1, t.numel() - 1)])]
    return float(np.quantile(np.array(around), place - low))


def _quantile(t: Tensor, share: float) -> int:
    """Returns the largest whole number that is not above a quantile of sorted times, exactly: numpy takes float64."""
    place = share * (t.numel() - 1)
    low = int(place)
    before, after = (int(t[min(event, t.numel() - 1)]) for event in (low, low + 1))
    return before + int(Fraction(place - low) * (after - before))
