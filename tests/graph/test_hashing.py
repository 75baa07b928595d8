import torch

from pyg_mspipe.graph.hashing import _mix, _signed, uniform_hash

GOLDEN = 0x9E3779B97F4A7C15


def test_the_finaliser_gives_the_published_numbers_of_splitmix64():
    state = torch.tensor([_signed(1234567 + i * GOLDEN) for i in range(1, 6)])
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert [x % 2**64 for x in _mix(state).tolist()] == published


def test_draws_fill_the_unit_interval_evenly():
    first, second = torch.arange(200).repeat_interleave(500), torch.arange(500).repeat(200)
    draws = uniform_hash(3, 2, first, second, 2)[:, 1]
    assert draws.dtype == torch.float64
    assert draws.min() >= 0
    assert draws.max() < 1
    counts = torch.histc(draws, bins=64, min=0, max=1)
    chi_square = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert 30 < chi_square < 115  # 63 degrees of freedom, about four standard deviations either side


def test_every_argument_changes_the_draw_and_no_two_draws_are_alike():
    ids = torch.arange(-3, 4)
    first, second = torch.cartesian_prod(ids, ids).unbind(1)
    draws = [
        uniform_hash(seed, epoch, first, second, 3).flatten()
        for seed in (-(2**63), -1, 0, 1, 2, 2**64 - 2)
        for epoch in (0, 1, 2)
    ]
    assert torch.cat(draws).unique().numel() == 6 * 3 * 3 * 49


def test_draws_of_neighbouring_arguments_are_uncorrelated():
    first, second = torch.arange(40_000) // 200, torch.arange(40_000) % 200
    draws = [*uniform_hash(0, 0, first, second, 2).unbind(1)]
    draws.append(uniform_hash(1, 0, first, second, 1)[:, 0])
    draws.append(uniform_hash(0, 1, first, second, 1)[:, 0])
    draws.append(uniform_hash(0, 0, first + 1, second, 1)[:, 0])
    draws.append(uniform_hash(0, 0, first, second + 1, 1)[:, 0])
    correlation = torch.corrcoef(torch.stack(draws))
    # Neighbours share no draw: (200, 200) pairs shifted by one have overlaps, compared here at different places.
    assert (correlation - torch.eye(6)).abs().max() < 0.025  # five standard deviations
