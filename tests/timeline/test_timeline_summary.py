import io

import pytest
from pipelined_records import pipelined
from rich.console import Console

from pyg_mspipe.pipeline.record import STAGES, BatchRecord
from pyg_mspipe.timeline.summary import summarize_timeline


@pytest.mark.parametrize(
    ("tau", "options", "limit", "period"),
    [
        ((6, 1, 1, 4, 2), {}, "sampling", 6),
        ((1, 4, 3, 5, 2), {}, "copy", 7),
        ((2, 1, 1, 8, 2), {}, "training", 8),
        ((1, 1, 1, 5, 6), {}, "update", 6),
        ((1, 1, 3, 4, 4), {"bound": 0, "rows": 1.0}, "dependency", 11),
        ((1, 1, 1, 5, 6), {"bound": 0}, "dependency", 9),
    ],
)
def test_the_summary_names_what_limits_and_the_rates(tau, options, limit, period):
    summary = summarize_timeline(pipelined(tau, 80, **options))
    slowest = max(tau[0], tau[1] + tau[2], tau[3], tau[4])
    assert summary.limit == limit
    assert summary.batches == 80
    assert summary.rate == pytest.approx(1000 / period)
    assert summary.bound == pytest.approx(1000 / slowest)
    assert summary.overlap == pytest.approx((sum(tau) - period) / (sum(tau) - slowest))
    assert [each.duration for each in summary.stages.values()] == pytest.approx([each / 1000 for each in tau])
    assert [each.busy for each in summary.stages.values()] == pytest.approx([each / period for each in tau])


def sequential(tau, batches=20):
    records, now = [], 0.0
    for index in range(batches):
        record = BatchRecord(index, fetched=index)
        for stage, each in zip(STAGES, tau, strict=True):
            record.begin[stage] = now
            now = record.finish[stage] = now + each / 1000
        records.append(record)
    return records


def test_stages_that_run_one_after_another_lack_overlap():
    summary = summarize_timeline(sequential((4, 4, 1, 5, 1)))
    assert (summary.limit, summary.overlap) == ("overlap", pytest.approx(0))
    assert "--staleness exact or minimal" in summary.advice


def test_training_that_takes_nearly_all_time_limits_though_nothing_overlaps():
    assert summarize_timeline(sequential((0.1, 0.1, 0.1, 9, 0.1))).limit == "training"


def test_where_one_stage_is_all_there_is_no_overlap_to_reach():
    assert summarize_timeline(sequential((0, 0, 0, 5, 0))).overlap is None


def test_forwarded_rows_make_no_dependency():
    records = pipelined((1, 1, 3, 4, 4), 80, bound=0, rows=1.0)
    for record in records:
        record.fetched, record.staleness = max(0, record.index - 1), 0
    assert summarize_timeline(records).limit != "dependency"


def test_a_batch_waits_from_the_stage_before_and_its_commit_from_the_new_rows():
    records = sequential((1, 1, 1, 4, 1))
    for record in records:
        record.begin["gather"] += 0.0005
        record.rows_at = record.begin["train"] + 0.001
    waiting = {stage: each.waiting for stage, each in summarize_timeline(records).stages.items()}
    expected = dict.fromkeys(STAGES, 0.0) | {"gather": 0.0005, "update": 0.003}
    assert waiting == pytest.approx(expected)


def test_filling_and_draining_count_for_no_rate():
    slow_start = sequential((1, 1, 1, 5, 1), 40)
    for record in slow_start[:4]:
        for times in (record.begin, record.finish):
            times.update({stage: t / 50 for stage, t in times.items()})
    assert summarize_timeline(slow_start).rate == pytest.approx(1000 / 9)


def test_staleness_is_counted_over_all_trained_batches():
    records = pipelined((1, 1, 1, 5, 6), 30)
    del records[-1].finish["update"]
    summary = summarize_timeline(records)
    assert summary.batches == 29
    assert summary.staleness == {0: 1, 1: 29}


def test_fewer_than_two_whole_batches_have_no_summary():
    records = pipelined(batches=2)
    del records[1].finish["update"]
    with pytest.raises(
        ValueError, match="1 batches finished all stages; at least 2 are needed, so record a longer run"
    ):
        summarize_timeline(records)


def test_a_summary_prints_its_figures():
    printed = io.StringIO()
    Console(width=200, file=printed).print(summarize_timeline(pipelined((1, 1, 1, 5, 6), 81)))
    text = printed.getvalue()
    assert "81 batches, 166.7 a second; at most 166.7; 100% of the possible overlap reached" in text
    assert "staleness  0: 1.2%, 1: 98.8%" in text
    assert "limited by update: a commit takes 6 ms" in text
    assert all(stage in text for stage in STAGES)
