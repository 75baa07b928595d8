import torch
from small_runs import losses, same, small_config, small_stream

from pyg_mspipe.data import NegativeSampler
from pyg_mspipe.training import SingleExecutor, Trainer, load_checkpoint


def test_a_trainer_takes_negatives_of_ones_own_for_training_and_for_evaluation(tmp_path):
    data = small_stream()
    asked = []

    def own(at):
        asked.append(at.events.start)
        return [[int(d), (e * 7) % 80] for e, d in zip(at.events, at.src, strict=True)]

    def lists(at):
        return [[e % 80 for _ in range(1 + e % 3)] for e in at.events]

    config = small_config(epochs=1)
    trainer = Trainer(data, config, tmp_path / "own", negatives=own, eval_negatives=lists)
    trainer.fit()
    assert set(asked) == set(range(0, trainer.split.train.stop, config.batch_size))
    batch = trainer.batches("train").read(0, 0)
    assert torch.equal(batch.negatives.dst, torch.stack([batch.src, torch.arange(40) * 7 % 80]))
    val = trainer.batches("val", evaluation=True).read(0, 0)
    assert val.negatives.padded
    assert trainer.evaluate("val").num_negatives == 3


def test_the_settings_own_negatives_given_by_hand_make_the_same_run(tmp_path):
    data, config = small_stream(), small_config(epochs=1)
    plain = Trainer(data, config, tmp_path / "plain")
    plain.fit()
    known = data.dst[: plain.split.train.stop]
    by_hand = NegativeSampler.from_destinations(known, seed=(config.seed, 0))
    trainer = Trainer(data, config, tmp_path / "by_hand", negatives=by_hand, executor=SingleExecutor())
    trainer.fit()
    assert losses(tmp_path / "by_hand") == losses(tmp_path / "plain")
    checkpoints = [load_checkpoint(tmp_path / name / "last.pt") for name in ("plain", "by_hand")]
    assert same(*(each["model"] for each in checkpoints))
