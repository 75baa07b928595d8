import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import TemporalData

from pyg_mspipe.data import EventGroups, StreamSplit

EDGES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=30)


def groups_of(edges, cut):
    """The groups of a stream, its training events, and its evaluated ones."""
    src, dst = torch.tensor(edges).T
    train, rest = 1 + cut % (len(edges) - 2), len(edges) - 1
    data = TemporalData(src=src, dst=dst, t=torch.arange(len(edges)))
    split = StreamSplit(range(train), range(train, rest), range(rest, len(edges)))
    return EventGroups.of(data, split), split


@given(EDGES, st.integers(0, 30))
def test_ends_are_new_that_no_training_event_touches(edges, cut):
    groups, split = groups_of(edges, cut)
    seen = {node for edge in edges[: split.train.stop] for node in edge}
    for events in (split.train, split.val, split.test):
        assert groups.new_ends(events).tolist() == [sum(node not in seen for node in edges[e]) for e in events]


@given(EDGES, st.integers(0, 30))
def test_the_activity_of_a_source_is_the_number_of_events_with_it_before_the_part(edges, cut):
    groups, split = groups_of(edges, cut)
    for events in (split.val, split.test):
        before = edges[: events.start]
        assert groups.activity(events).tolist() == [sum(edges[e][0] in edge for edge in before) for e in events]


@given(EDGES, st.integers(0, 30))
def test_groups_are_told_by_new_ends_and_quarters_of_activity(edges, cut):
    groups, split = groups_of(edges, cut)
    for events in (split.val, split.test):
        new, activity = groups.new_ends(events).tolist(), groups.activity(events).tolist()
        cuts = np.quantile(activity, [0.25, 0.5, 0.75])
        quarter = [1 + sum(each > bound for bound in cuts) for each in activity]
        expected = {"transductive": [n == 0 for n in new], "inductive": [n > 0 for n in new]}
        expected |= {"new_new": [n == 2 for n in new]}
        expected |= {f"activity_{number}": [each == number for each in quarter] for number in (1, 2, 3, 4)}
        found = {name: mask.tolist() for name, mask in groups.masks(events).items()}
        assert found == {name: mask for name, mask in expected.items() if any(mask)}
