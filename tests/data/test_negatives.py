from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from pyg_mspipe.data import NegativeSampler


def test_a_draw_depends_on_seed_epoch_and_batch_alone():
    sampler = NegativeSampler(0, 10**6, seed=3)
    first = sampler.draw(50, epoch=1, batch=2)
    torch.manual_seed(99)
    sampler.draw(50, epoch=7, batch=7)
    assert torch.equal(sampler.draw(50, epoch=1, batch=2), first)
    assert torch.equal(NegativeSampler(0, 10**6, seed=3).draw(50, epoch=1, batch=2), first)


def test_drawing_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    NegativeSampler(0, 5).draw(10, epoch=0, batch=0)
    assert torch.equal(torch.rand(1), expected)


def test_no_two_triples_share_their_negatives():
    draws = {
        tuple(NegativeSampler(0, 2**40, seed=seed).draw(4, epoch=epoch, batch=batch).tolist())
        for seed in (0, 1, 2, (1, 2), (2, 1), 2**32, (1, 1))
        for epoch in range(3)
        for batch in range(3)
    }
    assert len(draws) == 7 * 3 * 3


def test_threads_draw_what_one_thread_draws():
    sampler = NegativeSampler(0, 1000, seed=5)
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda batch: sampler.draw(20, epoch=0, batch=batch), range(50)))
    assert all(torch.equal(draw, sampler.draw(20, epoch=0, batch=batch)) for batch, draw in enumerate(drawn))


def test_draws_are_uniform_over_the_closed_range():
    draws = NegativeSampler(5, 9, seed=1).draw(50_000, epoch=0, batch=0)
    assert draws.dtype == torch.int64
    counts = torch.bincount(draws, minlength=10)
    assert counts[:5].sum() == 0
    assert (counts[5:] - 10_000).abs().max() < 500  # five standard deviations


def test_the_range_is_that_of_the_destinations_or_of_all_nodes():
    assert NegativeSampler.from_destinations(torch.tensor([8, 3, 5]), seed=2) == NegativeSampler(3, 8, seed=2)
    assert NegativeSampler.from_nodes(7, seed=(1, 2)) == NegativeSampler(0, 6, seed=(1, 2))


@pytest.mark.parametrize(
    ("low", "high", "seed", "message"),
    [
        (3, 2, 0, "no ids to draw between low 3 and high 2; give 0 <= low <= high"),
        (-1, 2, 0, "no ids to draw between low -1"),
        (0, 2, -4, "seed -4 is empty or negative"),
        (0, 2, (), "is empty or negative"),
    ],
)
def test_impossible_samplers_are_refused(low, high, seed, message):
    with pytest.raises(ValueError, match=r".") as raised:
        NegativeSampler(low, high, seed=seed)
    assert message in str(raised.value)
