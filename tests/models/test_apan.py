import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.apan import APANOracle
from oracles.comparison import NUM_NODES, Case, compare, randomized, streams

from pyg_mspipe.memory import RowState
from pyg_mspipe.memory.mailbox import deliver, mail_tables
from pyg_mspipe.models import APAN

DIM, TIME, MAILS = 4, 3, 3


def oldest_first(model):
    """The state with mails from the oldest to the latest, and zeros after them."""
    tables = dict(model.state.tables)
    received = tables.pop("received")
    tables["num_mails"] = received.clamp(max=MAILS)
    for name in ("mail", "mail_time"):
        turned = torch.zeros_like(tables[name])
        for node, count in enumerate(received.tolist()):
            for place, number in enumerate(range(max(0, count - MAILS), count)):
                turned[node, place] = tables[name][node, number % MAILS]
        tables[name] = turned
    return tables


@settings(deadline=None, max_examples=20)
@given(
    data=streams(),
    batch_size=st.integers(1, 7),
    fan_out=st.integers(1, 3),
    begin=st.sampled_from([0, 0, 3]),
    training_share=st.sampled_from([0.5, 1.0]),
    seed=st.integers(0, 100),
)
def test_outputs_gradients_and_state_are_those_of_a_loop_over_events_nodes_and_mails(
    data, batch_size, fan_out, begin, training_share, seed
):
    case = Case(data, NUM_NODES, batch_size, [], begin=begin, training_share=training_share, seed=seed)
    sizes = {"memory_dim": DIM, "time_dim": TIME, "dropout": 0.0}
    model = APAN(NUM_NODES, case.stream.msg_dim, **sizes, num_mails=MAILS, fan_out=fan_out)
    params = randomized(model, seed)
    oracle = APANOracle(params, case.stream, num_mails=MAILS, fan_out=fan_out, begin=begin)
    compare(model, params, oracle, case, tables=oldest_first)


def test_a_full_box_loses_its_oldest_mail_and_others_stay_as_they_are():
    state = RowState(mail_tables(4, 2, 1, None))
    for number in range(3):
        deliver(state.tables, torch.tensor([1, 3]), torch.full((2, 1), number + 1.0), torch.tensor([number, number]))
    assert state.tables["mail"].squeeze(-1).tolist() == [[0, 0], [3, 2], [0, 0], [3, 2]]
    assert state.tables["mail_time"][1].tolist() == [2, 1]
    assert state.tables["received"].tolist() == [0, 3, 0, 3]
