import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_mspipe.data.tensor_tree import map_tensors, ship
from pyg_mspipe.graph import SimilarNodes
from pyg_mspipe.memory.mitigation import (
    GatedMitigation,
    IdleRepair,
    Mitigation,
    PredictiveMitigation,
    Repair,
    SimilarityMitigation,
    make_mitigation,
)

NUM_NODES = 9
MEMORY_DIM = 3
NAMES = ["none", "similarity", "gated", "predictive"]
CPU = torch.device("cpu")
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
    ),
]


class State:
    """A memory state, similar nodes and a batch at random; some nodes never updated, some without similar ones."""

    def __init__(self, seed, dtype=torch.float32):
        self.generator = torch.Generator().manual_seed(seed)
        self.memory = torch.randn(NUM_NODES, MEMORY_DIM, generator=self.generator, dtype=dtype)
        self.last_update = self.integers(0, 6, NUM_NODES)
        self.t = 7
        self.n_id = torch.randperm(NUM_NODES, generator=self.generator)[: int(self.integers(0, NUM_NODES + 1, 1))]
        self.n_id = self.n_id.sort().values
        self.missed = self.integers(0, 4, self.n_id.numel())
        near = [torch.randperm(NUM_NODES, generator=self.generator).tolist() for _ in range(NUM_NODES)]
        keep = self.integers(0, 4, NUM_NODES).tolist()
        near = [[j for j in row if j != i][:k] for i, (row, k) in enumerate(zip(near, keep, strict=True))]
        self.similar = SimilarNodes(torch.tensor([row + [-1] * (4 - len(row)) for row in near]))

    def integers(self, low, high, size):
        return torch.randint(low, high, (size,), generator=self.generator)

    def fetch(self, mitigation):
        return mitigation.fetch(self.memory, self.last_update, self.n_id, self.t)

    def repaired(self, mitigation):
        return mitigation.repair(self.memory[self.n_id], self.fetch(mitigation), self.missed)

    def make(self, name, **options):
        return make_mitigation(name, num_nodes=NUM_NODES, memory_dim=MEMORY_DIM, similar=self.similar, **options).to(
            self.memory.dtype
        )


def busy_state(dtype=torch.float32):
    """A state in which all rows but the first are idle, some of them stale, and have similar nodes updated later."""
    state = State(0, dtype)
    state.n_id = torch.tensor([0, 2, 3, 5, 8])
    state.last_update = torch.tensor([6, 6, 1, 2, 6, 6, 6, 6, 3])
    state.missed = torch.tensor([0, 1, 0, 2, 3])
    state.similar = SimilarNodes(torch.tensor([[1, 4, -1], [0, 2, -1], [0, 3, 6], *[[2, 4, 1]] * 5, [7, 3, -1]]))
    state.last_update[5] = 1
    return state


seeds = st.integers(0, 10_000)


def loop_idle(state, quantile):
    """Yields ``(row, mean of similar nodes, idle time over gamma)`` of each row to be repaired, by the formula."""
    idle = {}
    for row, node in enumerate(state.n_id.tolist()):
        if state.last_update[node] != 0:
            idle[row] = state.t - int(state.last_update[node])
    if not idle:
        return
    times = torch.tensor(list(idle.values()), dtype=torch.float64)
    gamma = float(times.quantile(quantile))  # interpolated: the nodes above are the same
    lower = float(times.quantile(quantile, interpolation="lower"))
    for row, dt in idle.items():
        node = int(state.n_id[row])
        later = [
            j for j in state.similar.index[node].tolist() if j >= 0 and state.last_update[j] > state.last_update[node]
        ]
        if dt > gamma and later:
            yield row, torch.stack([state.memory[j] for j in later]).mean(0), dt / max(lower, 1)


@given(seeds, st.sampled_from([0.0, 0.3, 0.5, 0.99, 1.0]), st.sampled_from([0.0, 0.5, 0.95]))
def test_similarity_follows_the_formula_node_by_node(seed, quantile, lam):
    state = State(seed)
    expected = state.memory[state.n_id]
    for row, mean, _ in loop_idle(state, quantile):
        expected[row] = lam * expected[row] + (1 - lam) * mean
    torch.testing.assert_close(state.repaired(state.make("similarity", quantile=quantile, lam=lam)), expected)


@given(seeds, st.sampled_from([0.0, 0.5]))
def test_the_gate_follows_its_formula_node_by_node(seed, quantile):
    state = State(seed)
    gated = state.make("gated", quantile=quantile)
    with torch.no_grad():
        gated.weight.copy_(torch.tensor([0.7, -1.3]))
    expected = state.memory[state.n_id]
    for row, mean, idle in loop_idle(state, quantile):
        missed = state.missed[row].item()
        logit = torch.tensor(0.95).logit() + 0.7 * torch.tensor(1 + idle).log() - 1.3 * torch.tensor(1.0 + missed).log()
        expected[row] = logit.sigmoid() * expected[row] + (1 - logit.sigmoid()) * mean
    torch.testing.assert_close(state.repaired(gated).detach(), expected)


def test_only_the_longest_idle_percent_is_repaired_by_default():
    size = 300
    similar = SimilarNodes(torch.full((size + 1, 1), size))
    last_update = torch.cat([torch.arange(1, size + 1), torch.tensor([size + 5])])
    mitigation = SimilarityMitigation(similar)
    repair = mitigation.fetch(torch.zeros(size + 1, 2), last_update, torch.arange(size), size + 9)
    assert repair.row.tolist() == [0, 1, 2]


def test_idle_times_of_epoch_milliseconds_are_told_apart():
    start = 1_700_000_000_000
    last_update = torch.tensor([start, start + 1, start + 2**40])
    mitigation = SimilarityMitigation(SimilarNodes(torch.tensor([[2], [2], [-1]])), quantile=0.5)
    repair = mitigation.fetch(torch.ones(3, 1), last_update, torch.tensor([0, 1]), start + 2**40)
    assert repair.row.tolist() == [0]


def test_nodes_never_updated_neither_move_the_threshold_nor_are_repaired():
    similar = SimilarNodes(torch.tensor([[4], [4], [4], [4], [-1]]))
    last_update = torch.tensor([0, 0, 10, 12, 14])
    mitigation = SimilarityMitigation(similar, quantile=0.5)
    repair = mitigation.fetch(torch.ones(5, 1), last_update, torch.arange(4), 1_000_000)
    assert repair.row.tolist() == [2]
    assert mitigation.fetch(torch.ones(5, 1), torch.zeros(5, dtype=torch.long), torch.arange(4), 9) is None


def test_the_gate_starts_where_similarity_stands():
    state = busy_state(torch.float64)
    gated, plain = (state.repaired(state.make(name, quantile=0.0)) for name in ("gated", "similarity"))
    torch.testing.assert_close(gated.detach(), plain, rtol=0, atol=1e-8)


def test_the_gates_gradient_is_that_of_finite_differences():
    state = busy_state(torch.float64)
    gated = state.make("gated", quantile=0.0)
    repair = state.fetch(gated)
    memory = state.memory[state.n_id].requires_grad_()
    with torch.no_grad():
        gated.weight.copy_(torch.tensor([0.4, -0.6]))

    def rows(*_):  # gradcheck moves weights and memory in place
        return gated.repair(memory, repair, state.missed)

    assert torch.autograd.gradcheck(rows, (gated.weight, gated.bias, memory))


def test_the_loss_trains_all_of_the_gate_from_the_first_step():
    state = busy_state()
    gated = state.make("gated", quantile=0.0)
    state.repaired(gated).square().sum().backward()
    assert (gated.weight.grad != 0).all()
    assert gated.bias.grad != 0


def test_a_batch_without_idle_rows_needs_no_gradient_for_the_gate():
    state = busy_state()
    assert not state.repaired(state.make("gated", quantile=1.0)).requires_grad


def commits(state, num):
    """Yields ``(n_id, before, after)`` at random; some nodes are in none."""
    for _ in range(num):
        size = int(state.integers(0, NUM_NODES, 1))
        n_id = torch.randperm(NUM_NODES - 2, generator=state.generator)[:size]
        yield (n_id, *torch.randn(2, n_id.numel(), MEMORY_DIM, generator=state.generator))


@given(seeds, st.integers(0, 6), st.integers(0, 6), st.sampled_from([0.0, 0.5, 0.9]))
def test_predictive_adds_the_running_mean_of_past_updates_even_after_saving(seed, num_before, num_after, decay):
    state = State(seed)
    mitigation = state.make("predictive", decay=decay)
    deltas = {node: [] for node in range(NUM_NODES)}

    def commit(num):
        for n_id, before, after in commits(state, num):
            mitigation.observe(n_id, before, after)
            for row, node in enumerate(n_id.tolist()):
                deltas[node].append(after[row] - before[row])

    commit(num_before)
    saved = mitigation.mitigation_state()
    mitigation = state.make("predictive", decay=decay)
    mitigation.load_mitigation_state(copy.deepcopy(saved))
    commit(num_after)

    expected = state.memory[state.n_id]
    for row, (node, missed) in enumerate(zip(state.n_id.tolist(), state.missed.tolist(), strict=True)):
        if deltas[node] and missed:
            weight = torch.tensor([decay**age for age in reversed(range(len(deltas[node])))])
            mean = (torch.stack(deltas[node]) * weight.unsqueeze(1)).sum(0) / weight.sum()
            expected[row] += missed * mean
    out = state.repaired(mitigation)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    fresh = state.missed == 0
    assert out[fresh].equal(state.memory[state.n_id][fresh])


def test_a_row_that_is_not_stale_keeps_even_the_sign_of_its_zeros():
    mitigation = PredictiveMitigation(1, 1)
    mitigation.observe(torch.tensor([0]), torch.zeros(1, 1), torch.ones(1, 1))
    repair = mitigation.fetch(torch.zeros(1, 1), torch.ones(1, dtype=torch.long), torch.tensor([0]), 2)
    assert mitigation.repair(torch.tensor([[-0.0]]), repair, torch.tensor([0])).signbit().all()


def test_saved_means_are_not_those_that_go_on():
    mitigation = PredictiveMitigation(2, 1)
    mitigation.observe(torch.tensor([0]), torch.zeros(1, 1), torch.ones(1, 1))
    saved = mitigation.mitigation_state()
    kept = copy.deepcopy(saved)
    mitigation.observe(torch.tensor([0, 1]), torch.zeros(2, 1), torch.ones(2, 1))
    assert all(saved[name].equal(kept[name]) for name in kept)
    mitigation.load_mitigation_state(saved)
    mitigation.reset_state()
    assert all(saved[name].equal(kept[name]) for name in kept)


def test_predictive_forgets_on_reset():
    state = busy_state()
    mitigation = state.make("predictive")
    mitigation.observe(torch.arange(NUM_NODES), torch.zeros_like(state.memory), state.memory)
    assert state.fetch(mitigation) is not None
    mitigation.reset_state()
    assert state.fetch(mitigation) is None


def test_observing_in_inference_mode_leaves_means_that_training_can_go_on_with():
    mitigation = PredictiveMitigation(2, 1)
    one = torch.ones(1, 1, dtype=torch.float64)
    with torch.inference_mode():
        mitigation.observe(torch.tensor([1]), one, one + 1)
    mitigation.observe(torch.tensor([1]), one, one + 1)
    assert mitigation.mitigation_state()["mitigation.count"].tolist() == [0, 2]


def test_a_state_of_another_size_or_mitigation_is_refused():
    mitigation = PredictiveMitigation(4, 2)
    with pytest.raises(ValueError, match=r"\(5, 2\), the module \(4, 2\)"):
        mitigation.load_mitigation_state(PredictiveMitigation(5, 2).mitigation_state())
    with pytest.raises(ValueError, match="not of predictive"):
        mitigation.load_mitigation_state(Mitigation().mitigation_state())


@pytest.mark.parametrize("name", NAMES)
def test_no_rows_are_no_rows_afterwards(name):
    state = busy_state()
    state.n_id = state.missed = torch.empty(0, dtype=torch.long)
    mitigation = state.make(name)
    mitigation.observe(state.n_id, state.memory[:0], state.memory[:0])
    assert state.fetch(mitigation) is None
    assert state.repaired(mitigation).shape == (0, MEMORY_DIM)


@pytest.mark.parametrize("name", NAMES)
def test_the_fetched_rows_and_the_memory_are_not_written_to(name):
    state = busy_state()
    mitigation = state.make(name, quantile=0.0)
    mitigation.observe(state.n_id, torch.zeros(5, MEMORY_DIM), torch.ones(5, MEMORY_DIM))
    memory, rows = state.memory.clone(), state.memory[state.n_id]
    kept = rows.clone()
    out = mitigation.repair(rows, state.fetch(mitigation), state.missed)
    assert state.memory.equal(memory)
    assert rows.equal(kept)
    assert out.equal(rows) == (name == "none")


@pytest.mark.parametrize("name", NAMES)
def test_only_the_gate_adds_to_the_state_dict(name):
    assert sorted(busy_state().make(name).state_dict()) == (["bias", "weight"] if name == "gated" else [])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", NAMES)
def test_memory_may_live_on_another_device_than_the_weights(name, device):
    state = busy_state()
    own = state.make(name, quantile=0.0)
    moved = copy.deepcopy(own).to(device)
    for mitigation in (own, moved):
        mitigation.observe(state.n_id, torch.zeros(5, MEMORY_DIM), torch.ones(5, MEMORY_DIM))
    repair = state.fetch(moved)
    rows, missed = state.memory[state.n_id].to(device), state.missed.to(device)
    repair = ship(repair, torch.device(device))
    torch.testing.assert_close(moved.repair(rows, repair, missed).cpu(), state.repaired(own))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_follows_the_memory_to_its_device(name, device):
    state = busy_state()
    own = state.make(name, quantile=0.0)
    own.observe(state.n_id, torch.zeros(5, MEMORY_DIM), torch.ones(5, MEMORY_DIM))
    expected = state.repaired(own)
    own.to(device)
    for field in ("memory", "last_update", "n_id", "missed"):
        setattr(state, field, getattr(state, field).to(device))
    torch.testing.assert_close(state.repaired(own).cpu(), expected)


def test_a_repair_moves_with_all_its_tensors():
    repair = IdleRepair(torch.tensor([1]), torch.ones(1, 2), torch.ones(1))
    moved = map_tensors(repair, lambda x: x.to("meta"))
    assert type(moved) is IdleRepair
    assert all(x.device.type == "meta" for x in moved.tensors())
    assert len(moved.tensors()) == 3
    assert len(Repair(repair.row, repair.value).tensors()) == 2


def test_each_name_makes_its_own_kind():
    kinds = [Mitigation, SimilarityMitigation, GatedMitigation, PredictiveMitigation]
    assert [type(busy_state().make(name)) for name in NAMES] == kinds


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("predictiv", {}, "'predictiv'; did you mean 'predictive'"),
        ("simlarity", {}, "did you mean 'similarity'"),
        ("", {}, "known are none, similarity, gated, predictive"),
        ("gated", {"similar": None}, "pass similar=similar_nodes"),
        ("similarity", {"num_nodes": 8}, "similar nodes of 9 nodes, not num_nodes=8"),
        ("similarity", {"quantile": 1.5}, "quantile is 1.5"),
        ("similarity", {"lam": -1.0}, "lam is -1.0"),
        ("gated", {"lam": 1.0}, "lam is 1.0, from which a gate cannot learn"),
        ("predictive", {"decay": 1.0}, "decay is 1.0"),
    ],
)
def test_unknown_names_and_senseless_options_are_refused(name, options, message):
    known = {"num_nodes": NUM_NODES, "memory_dim": MEMORY_DIM, "similar": busy_state().similar}
    with pytest.raises(ValueError, match=message):
        make_mitigation(name, **known | options)
