import copy

import pytest
import torch
from random_training import NUM_NODES, assert_same, trained

from pyg_mspipe.memory import TimeEncoder


class Model(torch.nn.Module):
    """A memory within a model that is compiled."""

    def __init__(self, memory):
        super().__init__()
        self.memory = memory
        self.lin = torch.nn.Linear(memory.memory_dim + memory.time_dim, 1)

    def forward(self, n_id, t):
        z, last_update = self.memory(n_id)
        t_enc = self.memory.time_enc((t - last_update).to(z.dtype))
        return self.lin(torch.cat([z, t_enc], dim=1)).tanh()


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
)  # the compiler's own
def test_a_model_with_a_memory_is_compiled_once_for_all_sizes():
    memory, batch = trained()
    model = Model(memory)
    twin, graphs = copy.deepcopy(model), []

    def note(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=note, dynamic=True)
    for step in range(12):
        nodes = torch.randperm(NUM_NODES)[: 2 + step % (NUM_NODES - 2)]
        t = torch.tensor(1000 + 10 * step)
        found, expected = compiled(nodes, t), twin(nodes, t)
        assert_same(found, expected, atol=1e-6)
        for each, out in ((model, found), (twin, expected)):
            each.memory.update_state(*(batch[0], batch[1], batch[2] + 1000 + 10 * step, batch[3]))
            out.sum().backward()
            each.memory.detach()
    assert 1 <= len(graphs) <= 2
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert_same(one.grad, other.grad, atol=1e-5)
    torch._dynamo.reset()


def test_a_compiled_time_encoder_gives_the_same():
    encoder = TimeEncoder(4)
    t = torch.tensor([0.0, 1.0, 1e6, 3e8])
    compiled = torch.compile(encoder, backend="eager", fullgraph=True)
    assert_same(compiled(t), encoder(t), atol=1e-5)
    torch._dynamo.reset()
