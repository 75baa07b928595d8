"""APAN's oracle delivers mails as its module says."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.apan import APANOracle, apan_shapes
from oracles.comparison import NUM_NODES, random_stream, small_stream, streams
from oracles.events import Stream, ask_pairs
from oracles.parts import random_params

D = 4


def apan(stream, **options):
    return APANOracle(random_params(apan_shapes(stream.msg_dim, D, 3)), stream, **options)


def messages_in(oracle, node):
    """The messages of the events whose mails a node has, oldest first."""
    return [int(mail[-1]) for mail, _ in oracle.mails[node]]


def test_apan_delivers_to_both_ends_and_to_their_neighbours_of_before_the_batch():
    oracle = apan(small_stream((0, 1, 1), (2, 3, 2), (0, 2, 3), (1, 4, 4)))
    oracle.commit(range(0, 2))
    assert [messages_in(oracle, node) for node in range(5)] == [[0], [0], [1], [1], []]
    oracle.commit(range(2, 4))
    # Event 2 goes to 0 and 2, and to their neighbours 1 and 3; event 3 to 1 and 4, and to 1's neighbour 0, but not to
    # 2, which 0 has only met in this batch.
    assert [messages_in(oracle, node) for node in range(5)] == [[0, 3], [0, 3], [1, 2], [1, 2], [3]]


def test_apan_mails_begin_with_the_end_through_which_a_node_is_reached():
    stream = small_stream((0, 1, 1), (2, 3, 2), (0, 2, 3))
    oracle = apan(stream)
    oracle.commit(range(0, 2))
    events = range(2, 3)
    s_0, s_2 = (oracle.seen(node, events).detach() for node in (0, 2))
    oracle.commit(events)
    for node, (root, other) in {0: (s_0, s_2), 1: (s_0, s_2), 2: (s_2, s_0), 3: (s_2, s_0)}.items():
        mail, t = oracle.mails[node][-1]
        assert torch.equal(mail, torch.cat([root, other, stream.events[2].msg]))
        assert t == 3


def test_of_one_event_an_end_counts_before_a_neighbour_and_the_source_before_the_destination():
    oracle = apan(small_stream((0, 1, 1), (0, 2, 1), (1, 2, 1), (0, 1, 2)))
    for events in (range(0, 3), range(3, 4)):
        s_0, s_1 = (oracle.seen(node, events).detach() for node in (0, 1))
        oracle.commit(events)
    # 0 and 1 are neighbours of each other too, and 2 is one of both.
    for node, root in {0: s_0, 1: s_1, 2: s_0}.items():
        assert torch.equal(oracle.mails[node][-1][0][:D], root)


@settings(deadline=None, max_examples=15)
@given(data=streams(max_events=20), batch_size=st.integers(1, 7), num_mails=st.integers(1, 3))
def test_apans_rings_advance_once_for_each_recipient(data, batch_size, num_mails):
    oracle = apan(Stream(data, NUM_NODES), num_mails=num_mails, fan_out=2)
    for first in range(0, data.num_events, batch_size):
        events = range(first, min(first + batch_size, data.num_events))
        before = [list(mails) for mails in oracle.mails]
        got = oracle.deliveries(events)
        oracle.commit(events)
        for node in range(NUM_NODES):
            expected = before[node] + ([got[node]] if node in got else [])
            assert len(oracle.mails[node]) == min(len(expected), num_mails)
            for (mail, t), (other, time) in zip(oracle.mails[node], expected[-num_mails:], strict=True):
                assert torch.equal(mail, other)
                assert t == time
        assert set(oracle.stream.touched(events)) <= set(got)


def test_apan_looks_back_from_the_time_of_the_batchs_first_event_or_from_a_given_one():
    stream, events = Stream(random_stream(), NUM_NODES), range(4, 8)
    outputs = []
    for options in ({}, {"time_of": lambda *_: stream.events[4].t}, {"time_of": lambda *_: 50}):
        oracle = apan(stream, **options)
        oracle.commit(range(0, 4))
        outputs.append(oracle.batch(events, ask_pairs(stream, events, [])))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2])
