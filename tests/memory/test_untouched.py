"""Modules with hooks, normalised or pruned weights, or a forward of their own are called as PyG calls them."""

import copy

import pytest
import torch
from torch.nn import GRUCell, Linear
from torch.nn.utils import parametrizations, prune, spectral_norm
from torch_geometric.nn.models.tgn import IdentityMessage
from torch_geometric.nn.models.tgn import TGNMemory as PyGMemory

from pyg_mspipe import LastAggregator, NeighborSampler, TemporalCSR, TGNMemory, synthetic
from pyg_mspipe.memory.untouched import is_untouched
from pyg_mspipe.models import TemporalAttention


def hooked(module):
    module.register_forward_hook(lambda module, inputs, out: 2 * out)


def hooked_before(module):
    module.register_forward_pre_hook(lambda module, inputs: tuple(-x for x in inputs))


def replaced(module):
    own = module.forward
    module.forward = lambda *inputs: own(*inputs) - 1


def normed(name):
    return lambda module: spectral_norm(module, name).eval()


def normed_anew(name):
    return lambda module: parametrizations.spectral_norm(module, name).eval()


def pruned(name):
    return lambda module: prune.l1_unstructured(module, name, 0.5)


CELLS = [hooked, hooked_before, replaced, normed("weight_hh"), normed_anew("weight_ih"), pruned("weight_ih")]


def memories(change):
    """Ours and PyG's, with the same weights and the same change, on the same events."""
    torch.manual_seed(0)
    ours = TGNMemory(8, 2, 5, 4, IdentityMessage(2, 5, 4), LastAggregator())
    pyg = PyGMemory(8, 2, 5, 4, IdentityMessage(2, 5, 4), copy.deepcopy(LastAggregator()))
    pyg.load_state_dict(ours.state_dict())
    for memory in (ours, pyg):
        torch.manual_seed(1)
        change(memory)
    data = synthetic(40, num_src=4, num_dst=4, msg_dim=2)
    data.t = torch.arange(40)
    for first in range(0, 40, 10):
        batch = data[first : first + 10]
        for memory in (ours, pyg):
            memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
            memory.detach()
    return ours, pyg


def assert_alike(change):
    ours, pyg = memories(change)
    n_id = torch.arange(8)
    (one, since), (other, last) = ours(n_id), pyg(n_id)
    torch.testing.assert_close(one, other)
    assert since.equal(last)
    plain, _ = memories(lambda memory: None)
    assert not torch.allclose(plain(n_id)[0], one)


@pytest.mark.parametrize("change", CELLS)
def test_a_cell(change):
    assert_alike(lambda memory: change(memory.gru))


def test_a_cell_without_bias():
    assert_alike(lambda memory: setattr(memory, "gru", GRUCell(memory.gru.input_size, 5, bias=False)))


@pytest.mark.parametrize("side", ["msg_s_module", "msg_d_module"])
@pytest.mark.parametrize("change", [hooked, hooked_before, replaced])
def test_a_message_module(change, side):
    assert_alike(lambda memory: change(getattr(memory, side)))


@pytest.mark.parametrize("name", ["lin_key", "lin_value", "lin_edge"])
@pytest.mark.parametrize("change", [hooked, replaced, normed("weight"), pruned("weight")])
def test_a_layer_of_attention(name, change):
    data = synthetic(60, num_src=5, num_dst=5, msg_dim=3, bipartite=False)
    (hop,) = NeighborSampler(TemporalCSR.from_stream(data), [4]).sample(torch.arange(5), 50).hops
    torch.manual_seed(0)
    attention = TemporalAttention(6, 8, 4, 3).eval()
    x, t_enc = torch.randn(int(hop.neighbor.max()) + 1, 6), torch.randn(*hop.mask.shape, 4)
    plain = attention(x, hop, t_enc, data.msg[hop.e_id])
    layer = getattr(attention, name)
    torch.testing.assert_close(
        attention._by_calls(x[hop.target], x[hop.neighbor], torch.cat([t_enc, data.msg[hop.e_id]], -1), hop.mask), plain
    )
    change(layer)
    calls = []
    layer.register_forward_hook(lambda *_: calls.append(1))
    assert not torch.allclose(attention(x, hop, t_enc, data.msg[hop.e_id]), plain)
    assert len(calls) == 1


def test_what_is_in_the_way():
    assert is_untouched(Linear(2, 2), Linear)
    assert not is_untouched(Linear(2, 2), GRUCell)
    for change in (hooked, hooked_before, replaced, pruned("weight"), normed_anew("weight")):
        layer = Linear(2, 2)
        change(layer)
        assert not is_untouched(layer, Linear)
    layer = Linear(2, 2)
    layer.register_full_backward_hook(lambda *_: None)
    assert not is_untouched(layer, Linear)
