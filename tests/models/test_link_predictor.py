import torch

from pyg_mspipe.models import LinkPredictor


def test_the_score_is_that_of_the_formula():
    predictor = LinkPredictor(4)
    z_src, z_dst = torch.randn(2, 5, 4)
    both = z_src @ predictor.lin_src.weight.T + predictor.lin_src.bias
    both = both + z_dst @ predictor.lin_dst.weight.T + predictor.lin_dst.bias
    expected = both.clamp(min=0) @ predictor.lin_final.weight.T + predictor.lin_final.bias
    torch.testing.assert_close(predictor(z_src, z_dst), expected)


def test_one_source_is_scored_against_many_destinations():
    predictor = LinkPredictor(4)
    z_src, z_dst = torch.randn(5, 4), torch.randn(3, 5, 4)
    out = predictor(z_src, z_dst)
    assert out.shape == (3, 5, 1)
    torch.testing.assert_close(out, torch.stack([predictor(z_src, each) for each in z_dst]))


def test_resetting_draws_all_weights_anew():
    predictor = LinkPredictor(4)
    before = {name: x.clone() for name, x in predictor.state_dict().items()}
    predictor.reset_parameters()
    assert not any(torch.equal(x, before[name]) for name, x in predictor.state_dict().items())
