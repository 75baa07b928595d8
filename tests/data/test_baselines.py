import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from torch_geometric.data import TemporalData

from pyg_mspipe.data import popularity_ap


@given(dst=st.lists(st.integers(0, 4), min_size=2, max_size=30), seed=st.integers(0, 100))
def test_popularity_is_the_count_of_earlier_events_with_the_same_destination(dst, seed):
    start = seed % (len(dst) - 1)
    stop = len(dst) - seed % 2
    negatives = torch.randint(0, 6, (stop - start,), generator=torch.Generator().manual_seed(seed)).tolist()
    events = range(start, stop)
    scores = [dst[:event].count(dst[event]) for event in events]
    scores += [dst[:event].count(negative) for event, negative in zip(events, negatives, strict=True)]
    expected = average_precision_score([1] * len(events) + [0] * len(events), scores)
    data = TemporalData(src=torch.zeros(len(dst), dtype=torch.int64), dst=torch.tensor(dst), t=torch.arange(len(dst)))
    assert abs(popularity_ap(data, events, torch.tensor(negatives)) - expected) < 1e-12
