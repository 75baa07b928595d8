import pytest
import torch
from torch_geometric.data import TemporalData

from pyg_mspipe import TGN, Batches, NegativeSampler, NeighborSampler, TemporalCSR
from pyg_mspipe.tasks import LinkPrediction, Objective, train_step


def made(**options):
    generator = torch.Generator().manual_seed(0)
    src, dst = torch.randint(0, 6, (2, 40), generator=generator)
    data = TemporalData(src=src, dst=dst, t=torch.arange(40), msg=torch.randn(40, 2, generator=generator))
    torch.manual_seed(0)
    model = TGN(6, 2, memory_dim=4, time_dim=4, embedding_dim=4, dropout=0.0)
    sampler = NeighborSampler(TemporalCSR.from_stream(data), [3])
    batches = Batches(data, range(40), 10, sampler, NegativeSampler.from_destinations(dst))
    return Objective(model, LinkPrediction(4), **options), batches


def gradients(objective):
    return [x.grad.clone() for x in objective.parameters() if x.grad is not None]


def test_without_an_optimizer_gradients_are_added_up_and_weights_stay():
    objective, batches = made()
    before = [x.detach().clone() for x in objective.parameters()]
    batch = batches.read(0, 2)
    loss = train_step(objective, batch)
    once = gradients(objective)
    assert torch.equal(train_step(objective, batch), loss)
    assert all(torch.equal(two, 2 * one) for one, two in zip(once, gradients(objective), strict=True))
    assert all(torch.equal(x, old) for x, old in zip(objective.parameters(), before, strict=True))


def test_a_weight_scales_loss_and_gradients():
    (whole, batches), (half, _) = made(), made()
    batch = batches.read(0, 2)
    assert torch.equal(train_step(half, batch, weight=0.5), 0.5 * train_step(whole, batch))
    for one, other in zip(gradients(whole), gradients(half), strict=True):
        torch.testing.assert_close(other, 0.5 * one)


def test_the_commit_comes_after_the_embedding_and_before_the_backward_pass():
    objective, batches = made()
    seen = []

    def commit(batch):
        seen.append((batch, torch.is_grad_enabled(), gradients(objective)))

    batch = batches.read(0, 0)
    train_step(objective, batch, commit=commit)
    assert seen == [(batch, False, [])]
    assert gradients(objective)


def test_no_batch_gives_a_zero_that_reaches_every_weight():
    objective, _ = made()
    loss = objective(None)
    loss.backward()
    assert loss.item() == 0
    assert all(x.grad is not None and not x.grad.any() for x in objective.parameters())


def trained_losses(num_steps):
    objective, batches = made(bf16=True)
    optimizer = torch.optim.SGD(objective.parameters(), lr=1.0)
    return [train_step(objective, batches.read(0, 2), [optimizer]).item() for _ in range(num_steps)]


@pytest.fixture
def autocast_never_left():
    """What a Ctrl-C between torch's entering of autocast and its being remembered leaves behind."""
    torch.autocast_increment_nesting()
    yield
    torch.autocast_decrement_nesting()
    torch.clear_autocast_cache()


def test_weights_of_long_ago_are_not_used_where_a_context_of_autocast_was_never_left(autocast_never_left):
    found = trained_losses(3)
    torch.autocast_decrement_nesting()
    torch.clear_autocast_cache()
    expected = trained_losses(3)
    torch.autocast_increment_nesting()
    assert found == expected
    assert len(set(found)) == 3
