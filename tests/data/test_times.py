"""Times that int64 does not hold, and splits of times that float64 does not."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import TemporalData

from pyg_mspipe.data import StreamError, check_stream, load_stream, split_stream

NANOSECONDS = 1_700_000_000_000_000_000


def load(path, t, **options):
    np.savez(path / "e.npz", src=np.arange(len(t)), dst=np.arange(len(t)), t=t)
    return load_stream(path / "e.npz", **options)


@pytest.mark.parametrize(
    ("t", "scale", "said"),
    [
        (
            [NANOSECONDS, NANOSECONDS + 1],
            1000,
            f"event 1: t is {NANOSECONDS + 1} times 1000, past 2**62; leave time_scale",
        ),
        ([5, 6], 1e19, "event 1: t is 6 times 1e+19, past 2**62; leave time_scale out if these are finer already"),
        ([0.5, 1e15], 1e6, "event 1: t is 1000000000000000.0 times 1e+06, past 2**62"),
        ([-(2**62), 0], None, f"event 0: t is -{2**62}, past 2**62; pass a smaller time_scale"),
        (np.array([1, 2**63 + 5], dtype=np.uint64), None, f"event 1: t is {2**63 + 5}, past 2**62"),
    ],
)
@pytest.mark.parametrize("sort", [False, True])
def test_times_that_overflow_are_refused_with_event_and_factor(tmp_path, t, scale, said, sort):
    with pytest.raises(StreamError) as error:
        load(tmp_path, np.array(t), time_scale=scale, sort=sort)
    assert said in error.value.problems[0]


def test_times_at_the_edge_stay_what_they_are(tmp_path):
    t = np.array([-(2**62) + 1, 2**62 - 1])
    assert load(tmp_path, t).t.tolist() == t.tolist()
    assert load(tmp_path, np.array([2**52, 2**52 + 1]), time_scale=1000).t.tolist() == [
        1000 * 2**52,
        1000 * 2**52 + 1000,
    ]


def test_a_span_beyond_int64_is_refused():
    t = torch.tensor([-(2**63) + 1, 2**63 - 1])
    with pytest.raises(StreamError, match="further than int64 counts; check the unit of both"):
        check_stream(TemporalData(src=torch.zeros(2).long(), dst=torch.zeros(2).long(), t=t))


def test_times_a_nanosecond_apart_are_split_by_shares():
    t = NANOSECONDS + torch.arange(10_000)
    split = split_stream(TemporalData(src=torch.zeros(10_000).long(), dst=torch.zeros(10_000).long(), t=t))
    assert [len(part) for part in (split.train, split.val, split.test)] == [7000, 1500, 1500]


@given(st.lists(st.integers(0, 10**6), min_size=8, max_size=60), st.sampled_from([0, 2**53, 2**61]))
def test_a_split_does_not_depend_on_where_times_begin(gaps, begin):
    t = torch.tensor(gaps).cumsum(0) + 2**25  # past what float32 holds, as PyG would round those below
    size = len(gaps)
    one, other = (TemporalData(src=torch.zeros(size).long(), dst=torch.zeros(size).long(), t=x) for x in (t, t + begin))
    try:
        expected = split_stream(one, val_ratio=0.25, test_ratio=0.25)
    except StreamError:
        return
    assert split_stream(other, val_ratio=0.25, test_ratio=0.25) == expected
