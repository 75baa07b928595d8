import json

from pyg_mspipe.training.metrics_log import MetricsLog


def test_what_came_after_the_length_to_keep_is_cut_off(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.write("batch", 0, loss=1.0)
        length = log.sync()
        log.write("batch", 1, loss=2.0)
    with MetricsLog(tmp_path, length=length) as log:
        assert log.sync() == length
        log.write("batch", 1, loss=3.0)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == [1.0, 3.0]
