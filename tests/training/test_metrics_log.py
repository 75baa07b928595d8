import json

import pytest

from pyg_mspipe.training import CheckpointError
from pyg_mspipe.training.metrics_log import LogMark, MetricsLog


@pytest.fixture
def mark(tmp_path):
    """The place in a log before its last line."""
    with MetricsLog(tmp_path) as log:
        log.write("batch", 0, loss=1.0)
        mark = log.sync()
        log.write("batch", 1, loss=2.0)
    return mark


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_what_came_after_a_mark_is_cut_off(tmp_path, mark):
    with MetricsLog(tmp_path, kept=mark) as log:
        assert log.sync() == mark
        log.write("batch", 1, loss=3.0)
        later = log.sync()
    assert losses(tmp_path) == [1.0, 3.0]
    with MetricsLog(tmp_path, kept=later) as log:
        assert log.sync() == later


@pytest.mark.parametrize(
    "change", [lambda text: text[:-60], lambda text: text.replace(b"1.0", b"1.1"), lambda text: b""]
)
def test_a_log_that_is_cut_off_or_changed_before_its_mark_is_refused_and_left_as_it_is(tmp_path, mark, change):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(change(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"metrics.jsonl: cut off or changed since .*; put it back as it was, or"):
        MetricsLog(tmp_path, kept=mark)
    assert path.read_bytes() == before


def test_a_log_that_was_removed_is_begun_anew(tmp_path, mark):
    (tmp_path / "metrics.jsonl").unlink()
    with MetricsLog(tmp_path, kept=mark) as log:
        log.write("batch", 1, loss=3.0)
        assert log.sync() == LogMark((tmp_path / "metrics.jsonl").stat().st_size, log.sync().digest)
    assert losses(tmp_path) == [3.0]
