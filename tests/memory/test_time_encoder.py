import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.nn.models.tgn import TimeEncoder as PyGTimeEncoder

from pyg_mspipe.memory import TimeEncoder


def pair_of(channels=20):
    torch.manual_seed(0)
    pyg, ours = PyGTimeEncoder(channels), TimeEncoder(channels)
    ours.load_state_dict(pyg.state_dict())
    return pyg, ours


@settings(deadline=None)
@given(exponent=st.integers(-3, 7), seed=st.integers(0, 100), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_encodings_and_gradients_are_pygs_for_small_and_large_times(exponent, seed, dtype):
    pyg, ours = (encoder.to(dtype) for encoder in pair_of())
    generator = torch.Generator().manual_seed(seed)
    t = (10.0**exponent * (2 * torch.rand(30, generator=generator) - 1)).to(dtype)
    weight = torch.randn(30, 20, generator=generator).to(dtype)
    gradients = []
    for encoder in (ours, pyg):
        own_t = t.clone().requires_grad_()
        out = encoder(own_t)
        (out * weight).sum().backward()
        gradients.append(
            [out.detach(), own_t.grad, encoder.lin.weight.grad / max(1, 10**exponent), encoder.lin.bias.grad]
        )
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-6, rtol=1e-5)


@settings(deadline=None)
@given(exponent=st.integers(0, 37), seed=st.integers(0, 100))
def test_cosine_and_sine_are_exact_for_arguments_of_any_size(exponent, seed):
    generator = torch.Generator().manual_seed(seed)
    encoder = TimeEncoder(1)
    with torch.no_grad():
        encoder.lin.weight.fill_(1)
        encoder.lin.bias.zero_()
    t = (3 * 10.0**exponent * (2 * torch.rand(9, generator=generator) - 1)).requires_grad_()
    out = encoder(t)
    out.sum().backward()
    # Python's own functions take off multiples of two pi exactly.
    exact = torch.tensor([math.cos(x) for x in t.tolist()])
    slope = torch.tensor([-math.sin(x) for x in t.tolist()])
    torch.testing.assert_close(out.detach().view(-1), exact, atol=1e-6, rtol=0)
    torch.testing.assert_close(t.grad, slope, atol=1e-6, rtol=0)


def test_times_that_are_no_numbers_stay_so():
    assert TimeEncoder(2)(torch.tensor([float("nan"), float("inf")])).isnan().all()


def test_a_seed_gives_pygs_weights_and_resetting_draws_new_ones_like_pyg():
    torch.manual_seed(3)
    pyg = PyGTimeEncoder(6)
    torch.manual_seed(3)
    ours = TimeEncoder(6)
    assert torch.equal(ours.lin.weight, pyg.lin.weight)
    pyg.reset_parameters()
    torch.manual_seed(3)
    TimeEncoder(6)
    ours.reset_parameters()
    assert torch.equal(ours.lin.bias, pyg.lin.bias)


def test_the_log_start_covers_one_unit_to_a_billion():
    encoder = TimeEncoder(10, "log")
    torch.testing.assert_close(encoder.lin.weight.view(-1), 10.0 ** -torch.arange(10))
    assert not encoder.lin.bias.any()
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    with torch.no_grad():
        encoder.lin.weight.fill_(7)
    encoder.reset_parameters()
    torch.testing.assert_close(encoder(torch.tensor([1.0]))[0, 0], torch.tensor(1.0).cos())


def test_the_log_start_takes_as_many_draws_as_the_random_one():
    drawn = []
    for init in ("random", "log"):
        torch.manual_seed(0)
        TimeEncoder(5, init).reset_parameters()
        drawn.append(torch.rand(1))
    assert torch.equal(*drawn)


def test_an_unknown_start_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="time_init='linear' is unknown; choose one of random, log"):
        TimeEncoder(4, "linear")


def test_a_lower_precision_elsewhere_does_not_round_times():
    encoder = TimeEncoder(4)
    t = torch.tensor([1_000_000.0, 1_000_001.0])
    with torch.autocast("cpu", torch.bfloat16):
        out = encoder(t)
    assert torch.equal(out, encoder(t))


def test_times_of_any_shape_are_listed():
    encoder = TimeEncoder(4)
    t = torch.arange(6.0)
    assert torch.equal(encoder(t.view(2, 3)), encoder(t))
    assert encoder(t[:0]).shape == (0, 4)
