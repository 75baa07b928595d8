import io
import os
import signal
from contextlib import contextmanager

import pytest
from rich.console import Console
from small_runs import contents, losses, read_log, resume, same, small_config, small_stream

from pyg_mspipe.training import Interrupted, SingleExecutor, Trainer, load_checkpoint
from pyg_mspipe.training.interrupt import interruptible


class InterruptedExecutor(SingleExecutor):
    """Gets a real signal within a chosen training step, or within validation."""

    at_step = -1
    in_validation = False
    times = 1
    which = signal.SIGINT

    @contextmanager
    def sweep(self, epoch, first, step):
        with super().sweep(epoch, first, step) as train:

            def interrupted(at):
                loss = train(at)
                if step - first + at == self.at_step:
                    self.signal()
                return loss

            yield interrupted

    def validate(self, on_batch):
        if self.in_validation:
            self.in_validation = False
            self.signal()
        return super().validate(on_batch)

    def signal(self):
        for _ in range(self.times):
            os.kill(os.getpid(), self.which)


@pytest.fixture(scope="module")
def data():
    return small_stream()


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("interrupt")
    Trainer(data, small_config(), folder).fit()
    return folder


def interrupted_run(data, folder, **how):
    trainer = Trainer(data, small_config(checkpoint_every=0), folder, executor=InterruptedExecutor())
    vars(trainer.executor).update(how)
    with pytest.raises(Interrupted):
        trainer.fit()
    return trainer


MOMENTS = {
    "in the first batch": ({"at_step": 0}, 1),
    "within an epoch": ({"at_step": 14}, 15),
    "in an epoch's last batch": ({"at_step": 10}, 11),
    "in validation": ({"in_validation": True}, 11),
    "by a termination": ({"at_step": 5, "which": signal.SIGTERM}, 6),
}


@pytest.mark.parametrize(("how", "step"), list(MOMENTS.values()), ids=MOMENTS)
def test_an_interrupted_run_leaves_a_checkpoint_of_its_last_batch_that_resumes(data, whole, tmp_path, how, step):
    interrupted_run(data, tmp_path, **how)
    assert load_checkpoint(tmp_path / "last.pt")["progress"]["step"] == step
    assert losses(tmp_path) == losses(whole)[:step]
    resume(data, tmp_path).fit()
    assert read_log(tmp_path)[1:] == read_log(whole)[1:]
    settings = {"checkpoint_every": 4}
    resumed = contents(tmp_path)
    for checkpoint in resumed.values():
        checkpoint["config"] |= settings
    assert same(resumed, contents(whole))


@pytest.mark.parametrize("how", [how for how, _ in MOMENTS.values()], ids=MOMENTS)
def test_an_interrupted_trainer_goes_on_when_fit_is_called_again(data, whole, tmp_path, how):
    trainer = interrupted_run(data, tmp_path, **how)
    vars(trainer.executor).update(at_step=-1)
    trainer.fit()
    assert read_log(tmp_path)[1:] == read_log(whole)[1:]


def test_an_interrupted_trainer_without_a_folder_goes_on_too(data, whole):
    trainer = interrupted_run(data, None, at_step=7)
    vars(trainer.executor).update(at_step=-1)
    best = [line["ap"] for line in read_log(whole) if line["kind"] == "epoch" and line["best"]][-1]
    assert trainer.fit().best == best


def test_an_epoch_that_was_trained_before_has_no_rate(data, tmp_path):
    trainer = interrupted_run(data, tmp_path, in_validation=True)
    assert trainer.progress.batch
    shown = io.StringIO()
    checkpoint = load_checkpoint(tmp_path / "last.pt")
    Trainer.resume(data, checkpoint, tmp_path, console=Console(file=shown)).fit()
    first, second = shown.getvalue().splitlines()
    assert "trained before" in first
    assert "events/s" not in first
    assert "events/s" in second


def test_a_second_ctrl_c_does_not_wait(data, tmp_path):
    trainer = Trainer(data, small_config(), tmp_path, executor=InterruptedExecutor())
    vars(trainer.executor).update(at_step=2, times=2)
    with pytest.raises(KeyboardInterrupt) as raised:
        trainer.fit()
    assert raised.type is KeyboardInterrupt
    assert not (tmp_path / "last.pt").exists()


def test_signals_are_as_before_afterwards(data):
    before = [signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)]
    interrupted_run(data, None, at_step=0)
    assert [signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)] == before


def test_nobody_asked_to_stop_where_nobody_did():
    with interruptible() as request:
        assert not request.made
