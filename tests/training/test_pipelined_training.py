import json

import numpy as np
import pytest
import torch
from small_runs import contents, losses, read_log, resume, same, small_config, small_stream

from pyg_mspipe.pipeline import PipelineError
from pyg_mspipe.tasks import LinkPrediction
from pyg_mspipe.timeline.trace import read_trace
from pyg_mspipe.training import Interrupted, SingleExecutor, Trainer


def stage_lines(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "stages"]


def without_config(folder):
    return {
        name: {key: value for key, value in each.items() if key != "config"} for name, each in contents(folder).items()
    }


@pytest.mark.parametrize("settings", [{}, {"layers": 2}, {"strategy": "uniform", "cut_off": "event"}])
def test_exact_training_is_sequential_training_bit_for_bit(tmp_path, settings):
    for staleness in ("sequential", "exact", "0"):
        Trainer(small_stream(), small_config(staleness=staleness, **settings), tmp_path / staleness).fit()
    for staleness in ("exact", "0"):
        assert read_log(tmp_path / staleness)[1:] == read_log(tmp_path / "sequential")[1:]
        assert same(without_config(tmp_path / staleness), without_config(tmp_path / "sequential"))


def test_every_batch_has_a_line_with_staleness_durations_and_waits(tmp_path):
    Trainer(small_stream(), small_config(staleness="2"), tmp_path).fit()
    lines = stage_lines(tmp_path)
    assert [(line["step"], line["batch"]) for line in lines] == [(step, step % 11) for step in range(22)]
    for line in lines:
        assert 0 <= line["staleness"] <= line["bound"] == 2
        assert line["staleness"] == line["batch"] - line["fetched"]
        assert set(line["work_ms"]) == {"sample", "gather", "fetch", "train", "update"}
        assert set(line["wait_ms"]) == {"gather", "fetch", "train", "update"}
        assert min(line["work_ms"].values()) >= 0


@pytest.mark.parametrize("mitigation", ["none", "similarity", "gated", "predictive"])
@pytest.mark.parametrize("staleness", ["minimal", "3"])
def test_every_mitigation_trains_and_resumes(tmp_path, mitigation, staleness):
    config = small_config(staleness=staleness, mitigation=mitigation)
    Trainer(small_stream(), config, tmp_path).fit()
    assert len(losses(tmp_path)) == 22
    trainer = resume(small_stream(), tmp_path)
    assert (trainer.model.memory.mitigation is None) == (mitigation == "none")
    if mitigation == "predictive":
        assert trainer.model.memory.mitigation.mitigation_state()["mitigation.count"].any()


@pytest.mark.parametrize("mitigation", ["similarity", "gated", "predictive"])
def test_mitigation_changes_nothing_where_nothing_is_stale(tmp_path, mitigation):
    for name in ("none", mitigation):
        Trainer(small_stream(), small_config(staleness="exact", mitigation=name), tmp_path / name).fit()
    assert losses(tmp_path / mitigation) == losses(tmp_path / "none")


def test_similar_nodes_come_from_training_events_and_are_kept_for_the_next_run(tmp_path):
    cache = tmp_path / "stream.similar.npz"
    data, config = small_stream(), small_config(mitigation="similarity", staleness="2")
    train = Trainer(data, config, similar_cache=cache).split.train
    written = cache.read_bytes()
    Trainer(data, config, similar_cache=cache)
    assert cache.read_bytes() == written
    with np.load(cache) as arrays:
        similar = arrays["index"]
    trained = torch.cat([data.src[: train.stop], data.dst[: train.stop]]).unique().numpy()
    assert set(np.unique(similar)) <= {-1, *trained}
    assert (np.delete(similar, trained, axis=0) == -1).all()
    assert (similar >= 0).any()


def test_the_first_epoch_is_drawn_where_the_settings_say(tmp_path):
    path = tmp_path / "trace.json"
    Trainer(small_stream(), small_config(timeline=str(path)), tmp_path / "run").fit()
    records = read_trace(path)
    assert [record.index for record in records] == list(range(11))


def test_a_resume_leaves_the_timeline_as_it_is(tmp_path):
    path = tmp_path / "trace.json"

    class Interrupting(SingleExecutor):
        def validate(self, on_batch):
            raise Interrupted

    trainer = Trainer(small_stream(), small_config(timeline=str(path)), tmp_path / "run", executor=Interrupting())
    with pytest.raises(Interrupted):
        trainer.fit()
    drawn = path.read_bytes()
    resume(small_stream(), tmp_path / "run").fit()
    assert path.read_bytes() == drawn
    assert len(read_trace(path)) == 11


def test_a_run_whose_stage_failed_resumes_with_the_same_losses(tmp_path):
    Trainer(small_stream(), small_config(), tmp_path / "whole").fit()
    trainer = Trainer(small_stream(), small_config(), tmp_path / "broken")
    state, calls = trainer.model.memory.state, []
    apply = state.apply

    def failing(commit):
        calls.append(commit)
        if len(calls) == 7:
            raise OSError("no space left")
        apply(commit)

    state.apply = failing
    with pytest.raises(PipelineError, match="stage update, batch 6: OSError: no space left"):
        trainer.fit()
    resume(small_stream(), tmp_path / "broken").fit()
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")


@pytest.mark.parametrize("staleness", ["exact", "minimal"])
def test_an_interrupt_between_batches_leaves_a_run_to_go_on_with(tmp_path, staleness):
    config = small_config(staleness=staleness)
    Trainer(small_stream(), config, tmp_path / "whole").fit()

    class Interrupting(LinkPrediction):
        name = "LinkPrediction"

        def loss(self, z, batch):
            if batch.events.start == 5 * 40:
                raise Interrupted
            return super().loss(z, batch)

    with pytest.raises(Interrupted):
        Trainer(small_stream(), config, tmp_path / "cut", task=Interrupting).fit()
    resume(small_stream(), tmp_path / "cut").fit()
    assert len(losses(tmp_path / "cut")) == 22
    if staleness == "exact":
        assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
