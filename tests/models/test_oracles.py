"""What the oracles of the other models keep to, whatever their numbers are."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.apan import APANOracle, apan_shapes
from oracles.comparison import NUM_NODES, random_stream, small_stream, streams
from oracles.dyrep import DyRepOracle, dyrep_shapes
from oracles.events import Query, Stream, ask_pairs
from oracles.jodie import Gaps, JODIEOracle, jodie_shapes
from oracles.parts import cell_shapes, gru, layer_norm, norm_shapes, random_params, rnn
from oracles.tgat import TGATOracle, tgat_shapes
from oracles.tgn import TGNOracle, tgn_shapes
from torch import nn

D, T, F = 4, 3, 3


def tgn(stream, **options):
    return TGNOracle(random_params(tgn_shapes(stream.msg_dim, D, T, D, 1)), stream, [2], **options)


def jodie(stream, **options):
    return JODIEOracle(random_params(jodie_shapes(stream.msg_dim, D, T)), stream, **options)


def dyrep(stream, num_neighbors=(2,), **options):
    params = random_params(dyrep_shapes(stream.msg_dim, D, T, D, len(num_neighbors)))
    return DyRepOracle(params, stream, num_neighbors, **options)


def apan(stream, **options):
    return APANOracle(random_params(apan_shapes(stream.msg_dim, D, T)), stream, **options)


def tgat(stream, **options):
    x = torch.randn(NUM_NODES, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return TGATOracle(random_params(tgat_shapes(stream.msg_dim, 2, T, D, 2)), stream, [2, 2], x=x, **options)


MODELS = {
    "tgn": tgn,
    "jodie": jodie,
    "jodie, rows kept": partial(jodie, no_message="keep"),
    "jodie, gaps": partial(jodie, gaps=[Gaps(2.0, 3.0), Gaps(1.0, 5.0)] * (NUM_NODES // 2)),
    **{f"dyrep, {each}": partial(dyrep, other_end=each) for each in ("containing", "applying", "event", "tgb")},
    "dyrep, two layers": partial(dyrep, num_neighbors=(2, 2)),
    "apan": partial(apan, num_mails=2, fan_out=2),
    "tgat": tgat,
    "tgat, no features": lambda stream: TGATOracle(
        random_params(tgat_shapes(stream.msg_dim, 0, T, D, 1)), stream, [2], since="unseen"
    ),
}
WITH_MEMORY = [name for name in MODELS if not name.startswith("tgat")]


def queries_of(stream, events):
    return ask_pairs(stream, events, [[e_id % NUM_NODES for e_id in events]])


def run(oracle, batch_size, num_batches, settle_after=None):
    """Yields each batch's events and outputs, and commits the batch when the next one is asked for."""
    for number in range(num_batches):
        if number == settle_after:
            oracle.settle()
            oracle.training = False
        events = range(batch_size * number, min(batch_size * (number + 1), len(oracle.stream.events)))
        yield events, oracle.batch(events, queries_of(oracle.stream, events))
        oracle.commit(events)


@pytest.mark.parametrize("name", MODELS)
@settings(deadline=None, max_examples=8)
@given(data=streams(max_events=15), batch_size=st.integers(1, 7))
def test_outputs_and_state_are_finite_and_of_their_shapes(name, data, batch_size):
    oracle = MODELS[name](Stream(data, NUM_NODES))
    num_batches = -(-data.num_events // batch_size)
    for events, z in run(oracle, batch_size, num_batches, settle_after=num_batches // 2):
        assert z.shape == (3 * len(events), D)
        assert bool(z.isfinite().all())
    for table in oracle.state().values():
        assert table.size(0) == NUM_NODES
        assert not table.requires_grad
        assert bool(table.isfinite().all())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_a_batch_does_not_see_its_own_events_nor_later_ones(name, training):
    outputs = []
    for change in (0, 5):
        data = random_stream()
        # The last batches have other ends and messages; their times stay, since those are the queries'.
        data.msg[12:] += change
        data.dst[13:] = (data.dst[13:] + change) % NUM_NODES
        oracle = MODELS[name](Stream(data, NUM_NODES))
        list(run(oracle, 4, 3, settle_after=None if training else 2))
        events = range(12, 16)
        outputs.append(oracle.batch(events, [Query(node, e_id) for node in range(NUM_NODES) for e_id in events]))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_a_batch_sees_the_event_before_it(name):
    outputs = []
    for change in (0, 5):
        data = random_stream()
        data.msg[11] += change
        oracle = MODELS[name](Stream(data, NUM_NODES))
        list(run(oracle, 4, 3))
        outputs.append(oracle.batch(range(12, 16), [Query(int(data.src[11]), 12)]))
    assert not torch.allclose(*outputs)


@pytest.mark.parametrize("name", MODELS)
def test_scoring_changes_nothing_and_a_commit_changes_the_nodes_of_its_events_alone(name):
    oracle = MODELS[name](Stream(random_stream(), NUM_NODES))
    list(run(oracle, 4, 3))
    before = oracle.state()
    events = range(12, 14)
    oracle.batch(events, queries_of(oracle.stream, events))
    assert all(torch.equal(table, before[name]) for name, table in oracle.state().items())
    oracle.commit(events)
    others = [node for node in range(NUM_NODES) if node not in oracle.stream.touched(events)]
    for table in ("memory", "last_update", "other"):
        if table in before:
            assert torch.equal(oracle.state()[table][others], before[table][others])
            assert not torch.equal(oracle.state()[table], before[table])


# The stored rows of the variant "tgb" are not those that it scores with.
@pytest.mark.parametrize("name", [name for name in WITH_MEMORY if name != "dyrep, tgb"])
def test_a_commit_stores_the_rows_of_the_scored_batch_though_weights_have_changed_since(name):
    states = []
    for change in (0, 1):
        oracle = MODELS[name](Stream(random_stream(), NUM_NODES))
        list(run(oracle, 4, 2))
        events = range(8, 12)
        oracle.batch(events, queries_of(oracle.stream, events))
        with torch.no_grad():
            for parameter in oracle.params.values():
                parameter.add_(change)
        oracle.commit(events)
        states.append(oracle.state())
    assert torch.equal(states[0]["memory"], states[1]["memory"])


# Rows of the variant "tgb" depend on which nodes the next batch has, and nothing waits for those of APAN.
@pytest.mark.parametrize("name", [name for name in WITH_MEMORY if name not in ("dyrep, tgb", "apan")])
def test_settled_rows_are_those_that_the_next_batch_would_have_read(name):
    oracle = MODELS[name](Stream(random_stream(), NUM_NODES))
    list(run(oracle, 4, 3))
    rows = [oracle.seen(node, range(12, 16)) for node in range(NUM_NODES)]
    oracle.settle()
    assert torch.equal(oracle.state()["memory"], torch.stack([row for row, _ in rows]).detach())
    assert oracle.state()["last_update"].tolist() == [t for _, t in rows]


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("jodie", ()),
        ("jodie, gaps", ()),
        ("dyrep, applying", ("lin_key.bias",)),
        ("dyrep, event", ("lin_key.bias",)),
        ("dyrep, containing", ("layers.",)),
        ("dyrep, tgb", ("layers.",)),
        ("tgat", ("lin_key.bias",)),
        ("apan", ()),  # its scores go through a LeakyReLU, so that the bias of the keys matters
    ],
)
def test_which_parameters_get_a_gradient(name, without):
    oracle = MODELS[name](Stream(random_stream(), NUM_NODES))
    for _, z in run(oracle, 4, 6):
        (z.square() + z).sum().backward()
    for parameter, x in oracle.params.items():
        reached = x.grad is not None and float(x.grad.abs().max()) > 1e-9
        assert reached != any(part in parameter for part in without), parameter


def test_cells_and_norms_are_those_of_torch():
    x, h = torch.randn(2, D, dtype=torch.float64)
    for ours, theirs, gates in ((gru, nn.GRUCell(D, D), 3), (rnn, nn.RNNCell(D, D), 1)):
        params = random_params(cell_shapes("cell", D, D, gates))
        theirs.double().load_state_dict({name.removeprefix("cell."): p.detach() for name, p in params.items()})
        torch.testing.assert_close(ours(params, "cell", x, h), theirs(x[None], h[None])[0])
    params, norm = random_params(norm_shapes("norm", D)), nn.LayerNorm(D).double()
    norm.load_state_dict({name.removeprefix("norm."): p.detach() for name, p in params.items()})
    torch.testing.assert_close(layer_norm(params, "norm", x), norm(x))


def test_tgats_queries_of_one_node_differ_by_their_times():
    stream = small_stream((0, 1, 1), (1, 2, 3), (0, 2, 5), (0, 1, 9), (3, 0, 9))
    queries = [Query(0, 2), Query(0, 3), Query(0, 4)]
    by_query, by_first = (tgat(stream, since=since).batch(range(2, 5), queries) for since in ("query", "unseen"))
    assert not torch.allclose(by_query[0], by_query[1])
    assert torch.equal(by_query[1], by_query[2])
    assert torch.equal(by_first[0].expand_as(by_first), by_first)
    assert torch.equal(by_first[0], by_query[0])


def test_tgats_event_cut_off_sees_earlier_events_of_the_batch_but_not_those_of_the_same_time():
    stream = small_stream((0, 1, 1), (1, 2, 3), (0, 2, 5), (0, 1, 9), (3, 0, 9))
    oracle = tgat(stream, cut_off="event")
    events, whole = range(2, 5), tgat(stream)
    assert [oracle.bound(Query(0, e_id), events) for e_id in events] == [2, 3, 3]
    z = oracle.batch(events, [Query(0, 2), Query(0, 3), Query(0, 4)])
    assert torch.equal(z[0], whole.batch(events, [Query(0, 2)])[0])
    assert torch.equal(z[2], whole.batch(range(3, 5), [Query(0, 4)])[0])
    assert not torch.allclose(z[2], whole.batch(events, [Query(0, 4)])[0])


def test_jodies_projection_is_by_the_time_of_the_querys_event_and_by_the_nodes_gaps():
    stream = small_stream((0, 1, 1), (0, 2, 4), (0, 3, 9))
    z = []
    for mean in (3.0, 8.0):
        oracle = jodie(stream, gaps=[Gaps(mean, 1.0)] * NUM_NODES)
        oracle.commit(range(0, 1))
        z += oracle.batch(range(1, 3), [Query(0, 1), Query(0, 2)])
    # The gaps are 3 and 8: less the means, 0 and 5, and -5 and 0.
    torch.testing.assert_close(z[0], z[3])
    assert not torch.allclose(z[0], z[1])
    assert not torch.allclose(z[0], z[2])


@pytest.mark.parametrize("other_end", ["containing", "applying", "event", "tgb"])
def test_dyreps_message_holds_what_its_variant_says_of_the_other_end(other_end):
    # Event 1 waits for node 0 when the last batch, event 4, applies it; its other end is 1.
    oracle = dyrep(small_stream((1, 2, 1), (0, 1, 3), (1, 3, 4), (1, 3, 5), (0, 2, 7)), other_end=other_end)
    oracle.commit(range(0, 1))
    containing = oracle.attend(1, 1, lambda node: oracle.seen(node, range(1, 3)))
    oracle.commit(range(1, 3))
    oracle.commit(range(3, 4))
    stored = oracle.rows[1]
    applying, event = (
        oracle.attend(1, bound, lambda node: (oracle.rows[node], oracle.times[node])) for bound in (4, 1)
    )
    expected = {"containing": containing, "applying": applying, "event": event, "tgb": stored}
    found = oracle.message(0, oracle.stream.events[1], 4)[D : 2 * D]
    torch.testing.assert_close(found, expected.pop(other_end))
    assert not any(torch.allclose(found, each) for each in expected.values())


def test_tgbs_dyrep_stores_rows_with_the_embedding_of_an_other_end_that_is_in_the_batch():
    oracle = dyrep(small_stream((1, 2, 1), (0, 3, 3), (0, 1, 5), (0, 1, 7)), other_end="tgb")
    for first in range(3):
        oracle.commit(range(first, first + 1))
    events = range(3, 4)
    z = oracle.attend(1, 3, lambda node: oracle.seen(node, events))
    plain = oracle.message(0, oracle.stream.events[2], 3)
    joined = torch.cat([plain[:D], z, plain[2 * D :]])
    scored, row = oracle.batch(events, [Query(0, 3)])[0], oracle.rows[0]
    torch.testing.assert_close(scored, oracle.cell(plain, row))
    oracle.commit(events)
    torch.testing.assert_close(oracle.rows[0], oracle.cell(joined, row).detach())
    assert not torch.allclose(scored, oracle.rows[0])


def test_dyreps_readings_differ_where_the_other_end_has_met_somebody():
    data = random_stream()
    outputs = {}
    for other_end in ("containing", "applying", "event", "tgb"):
        oracle = dyrep(Stream(data, NUM_NODES), other_end=other_end)
        list(run(oracle, 4, 4))
        outputs[other_end] = oracle.batch(range(16, 20), queries_of(oracle.stream, range(16, 20)))
    names = list(outputs)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert not torch.allclose(outputs[one], outputs[other]), (one, other)
