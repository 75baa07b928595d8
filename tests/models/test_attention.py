import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.nn import TransformerConv

from pyg_mspipe.graph import Hop
from pyg_mspipe.models import TemporalAttention

IN, OUT, TIME = 5, 8, 3


def random_hop(rows, sources, k, seed, filled=0.6):
    """A grid with rows without any neighbour, and the generator for what else is drawn."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(rows, k, generator=generator) < filled
    target = torch.randint(0, sources, (rows,), generator=generator)
    neighbor = torch.randint(0, sources, (rows, k), generator=generator)
    neighbor = torch.where(mask, neighbor, target.unsqueeze(1))
    return Hop(target, neighbor, torch.zeros_like(neighbor), mask, target[:1]), generator


def pair_of(msg_dim, heads, dtype=torch.float64):
    torch.manual_seed(heads + msg_dim)
    pyg = TransformerConv(IN, OUT // heads, heads=heads, edge_dim=TIME + msg_dim).to(dtype)
    ours = TemporalAttention(IN, OUT, TIME, msg_dim, heads=heads, dropout=0.0).to(dtype)
    ours.load_state_dict(pyg.state_dict())
    return pyg, ours


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-5)])
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("msg_dim", [0, 4])
@settings(deadline=None, max_examples=15)
@given(
    rows=st.integers(1, 6),
    sources=st.integers(1, 7),
    k=st.integers(1, 4),
    seed=st.integers(0, 1000),
    filled=st.sampled_from([0.0, 0.6, 1.0]),
)
def test_outputs_and_all_gradients_are_those_of_pygs_convolution(
    msg_dim, heads, dtype, tolerance, rows, sources, k, seed, filled
):
    pyg, ours = pair_of(msg_dim, heads, dtype)
    hop, generator = random_hop(rows, sources, k, seed, filled)
    sizes = [(sources, IN), (rows, k, TIME), (rows, k, msg_dim), (rows, OUT)]
    x, t_enc, msg, grad = (torch.randn(size, generator=generator, dtype=dtype) for size in sizes)

    def results(module, run):
        module.zero_grad()
        own_x, own_t = x.clone().requires_grad_(), t_enc.clone().requires_grad_()
        out = run(own_x, own_t)
        out.backward(grad)
        gradients = {name: p.grad for name, p in module.named_parameters()}
        # Where no row has a neighbour, some weights take no part.
        shapes = {name: p.shape for name, p in module.named_parameters()}
        gradients = {name: torch.zeros(shapes[name], dtype=dtype) if g is None else g for name, g in gradients.items()}
        return {
            "out": out.detach(),
            "x": own_x.grad,
            "t": torch.zeros_like(t_enc) if own_t.grad is None else own_t.grad,
        } | gradients

    theirs = results(
        pyg,
        lambda x, t: pyg((x, x[hop.target]), hop.edge_index, torch.cat([t[hop.mask], msg[hop.mask]], dim=-1)),
    )
    mine = results(ours, lambda x, t: ours(x, hop, t, msg))
    torch.testing.assert_close(mine, theirs, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("msg_dim", [0, 4])
def test_what_stands_where_there_is_no_edge_does_not_matter(msg_dim):
    _, ours = pair_of(msg_dim, 2)
    hop, generator = random_hop(9, 6, 4, seed=0)
    x = torch.randn(6, IN, generator=generator, dtype=torch.float64)
    t_enc = torch.randn(9, 4, TIME, generator=generator, dtype=torch.float64)
    msg = torch.randn(9, 4, msg_dim, generator=generator, dtype=torch.float64)
    absent = ~hop.mask.unsqueeze(-1)
    garbage = t_enc.masked_fill(absent, 1e6).requires_grad_()
    out = ours(x, hop, garbage, msg.masked_fill(absent, -1e6))
    torch.testing.assert_close(out, ours(x, hop, t_enc, msg))
    out.sum().backward()
    assert not garbage.grad[~hop.mask].any()
    assert bool(garbage.grad[hop.mask].any())


def test_a_row_without_neighbours_is_its_own_projection():
    _, ours = pair_of(4, 2)
    hop, generator = random_hop(3, 5, 4, seed=1, filled=0)
    x = torch.randn(5, IN, generator=generator, dtype=torch.float64)
    out = ours(x, hop, torch.ones(3, 4, TIME).double(), torch.ones(3, 4, 4).double())
    torch.testing.assert_close(out, ours.lin_skip(x[hop.target]))


def test_messages_get_no_gradient_unless_they_ask_for_one():
    _, ours = pair_of(4, 2)
    hop, generator = random_hop(3, 5, 2, seed=1, filled=1)
    x, t_enc = torch.randn(5, IN, generator=generator).double(), torch.randn(3, 2, TIME, generator=generator).double()
    msg = torch.randn(3, 2, 4, generator=generator).double()
    ours(x, hop, t_enc, msg).sum().backward()
    assert msg.grad is None
    ours(x, hop, t_enc, msg.requires_grad_()).sum().backward()
    assert bool(msg.grad.any())


def test_dropout_is_of_training_alone_and_right_on_average():
    _, ours = pair_of(4, 2)
    hop, generator = random_hop(4, 5, 3, seed=2, filled=0.8)
    x = torch.randn(5, IN, generator=generator).double()
    t_enc, msg = (torch.randn(4, 3, size, generator=generator).double() for size in (TIME, 4))
    with torch.no_grad():
        expected = ours(x, hop, t_enc, msg)
        ours.dropout = 0.4
        assert torch.equal(ours.eval()(x, hop, t_enc, msg), expected)
        torch.manual_seed(0)
        ours.train()
        draws = torch.stack([ours(x, hop, t_enc, msg) for _ in range(3000)])
    error = (draws.mean(0) - expected) / (draws.std(0) / 3000**0.5 + 1e-12)
    has_neighbors = hop.mask.any(1)
    assert bool((draws.std(0)[has_neighbors] > 1e-3).all())
    assert error.abs().max() < 5


def test_lower_precision_elsewhere_changes_nothing_on_a_cpu():
    _, ours = pair_of(4, 2, torch.float32)
    hop, generator = random_hop(4, 5, 3, seed=2)
    x = torch.randn(5, IN, generator=generator)
    t_enc, msg = (torch.randn(4, 3, size, generator=generator) for size in (TIME, 4))
    with torch.autocast("cpu", torch.bfloat16):
        out = ours(x, hop, t_enc, msg)
    assert torch.equal(out, ours(x, hop, t_enc, msg))


def test_resetting_draws_all_weights_anew():
    _, ours = pair_of(4, 2)
    before = {name: x.clone() for name, x in ours.state_dict().items()}
    ours.reset_parameters()
    assert not any(torch.equal(x, before[name]) for name, x in ours.state_dict().items())


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="out_channels=10 is not a multiple of heads=4"):
        TemporalAttention(IN, 10, TIME, 0, heads=4)
