import pytest
import torch

from pyg_mspipe.graph import CommonNeighbors
from pyg_mspipe.models import CommonNeighborPredictor, LinkPredictor
from pyg_mspipe.models import link_predictor as module
from pyg_mspipe.pipeline import Pairs

NUM_PAIRS, NUM_EVENTS = 3, 7


def known():
    """Features of three pairs for each of seven events, and common neighbours of some of them."""
    generator = torch.Generator().manual_seed(0)
    pair = torch.tensor([0, 4, 5, 11, 20])
    slot = torch.tensor([0, 0, 2, 4, 6, 7, 7, 8, 11, 12])
    node = torch.randint(9, slot.shape, generator=generator)
    features = torch.randn(NUM_PAIRS, NUM_EVENTS, 4, generator=generator)
    return Pairs(features, CommonNeighbors(pair, slot, node))


def inputs():
    z, rows = torch.randn(10, 6), torch.randn(9, 5)
    src, dst = torch.randint(10, (NUM_EVENTS,)), torch.randint(10, (NUM_EVENTS, NUM_PAIRS))
    return z, rows, src, dst


def by_hand(head, z, rows, src, dst, pairs):
    """The logit of each pair, one after the other."""
    out = torch.empty(dst.shape)
    for event in range(NUM_EVENTS):
        for number in range(NUM_PAIRS):
            a, b = z[src[event]], z[dst[event, number]]
            hidden = head.lin_src(a) + head.lin_dst(b) + head.lin_product(a * b)
            hidden = hidden + head.lin_pair(pairs.features[number, event])
            for group in (pairs.common.pair == event * NUM_PAIRS + number).nonzero().view(-1).tolist():
                parts = []
                for order in range(3):
                    mine = pairs.common.node[pairs.common.slot == 3 * group + order]
                    parts += [rows[mine].sum(dim=0), torch.tensor([float(mine.numel())])]
                hidden = hidden + head.lin_common(torch.cat(parts))
            out[event, number] = head.lin_final(hidden.relu())
    return out


@pytest.mark.parametrize("block", [1, 7, 4096])
def test_scores_are_those_of_each_pair_by_the_formula_whatever_the_blocks(monkeypatch, block):
    monkeypatch.setattr(module, "BLOCK", block)
    torch.manual_seed(0)
    head, pairs = CommonNeighborPredictor(6, 5, pair_dim=4), known()
    z, rows, src, dst = inputs()
    expected = by_hand(head, z, rows, src, dst, pairs)
    torch.testing.assert_close(head.score_rows(z, src, dst, pairs, rows), expected)
    own = src.unsqueeze(1).expand_as(dst)
    torch.testing.assert_close(head.score_rows(z, own, dst, pairs, rows), expected)


def test_gradients_reach_the_rows_of_common_neighbors_and_those_alone():
    head, pairs = CommonNeighborPredictor(6, 5, pair_dim=4), known()
    z, rows, src, dst = inputs()
    rows.requires_grad_()
    head.score_rows(z, src, dst, pairs, rows).sum().backward()
    assert set(rows.grad.abs().sum(dim=1).nonzero().view(-1).tolist()) <= set(pairs.common.node.tolist())
    assert rows.grad.any()
    assert all(x.grad.isfinite().all() for x in head.parameters())


def test_without_any_common_neighbor_every_weight_still_has_a_gradient():
    head, nothing = CommonNeighborPredictor(6, 5), torch.empty(0, dtype=torch.long)
    z, rows, src, dst = inputs()
    pairs = Pairs(common=CommonNeighbors(nothing, nothing, nothing))
    head.score_rows(z, src, dst, pairs, rows).sum().backward()
    assert all(x.grad is not None for x in head.parameters())
    assert not head.lin_common.weight.grad.any()


def test_the_weights_that_all_heads_have_start_alike():
    heads = []
    for make in (lambda: LinkPredictor(6), lambda: LinkPredictor(6, pair_dim=4), lambda: CommonNeighborPredictor(6, 5)):
        torch.manual_seed(0)
        heads.append(make())
    plain = heads[0].state_dict()
    assert all(torch.equal(other.state_dict()[name], x) for other in heads for name, x in plain.items())
    before = {name: x.clone() for name, x in heads[2].state_dict().items()}
    heads[2].reset_parameters()
    assert not any(torch.equal(x, before[name]) for name, x in heads[2].state_dict().items())
