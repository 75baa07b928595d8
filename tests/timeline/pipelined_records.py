"""Records of a pass whose stages take known times, by the clock of the architecture."""

import random

from pyg_mspipe.pipeline.record import STAGES, BatchRecord


def pipelined(tau=(2, 1, 1, 5, 2), batches=40, *, bound=1, rows=0.4, prefetch=4, jitter=0.0, seed=0, delay=True):
    """Returns records of stages that overlap.

    Args:
        tau: Duration of each stage, in milliseconds.
        batches: How many.
        bound: How many commits a fetch may miss.
        rows: When the new rows exist, as a share of training.
        prefetch: How many batches may be sampled ahead of training.
        jitter: By what share durations vary.
        seed: Of the jitter.
        delay: Whether a fetch begins only when training would else wait for it.
    """
    rng = random.Random(seed)
    records: list[BatchRecord] = []

    def finish(index, stage):
        return records[index].finish[stage] if index >= 0 else 0.0

    for i in range(batches):
        took = dict(zip(STAGES, (each * 1e-3 * rng.uniform(1 - jitter, 1 + jitter) for each in tau), strict=True))
        record = BatchRecord(i, bound=bound)

        def work(stage, *after, record=record, took=took):
            record.begin[stage] = max(after)
            record.finish[stage] = record.begin[stage] + took[stage]

        freed = records[i - prefetch].begin["train"] if i >= prefetch else 0.0
        work("sample", finish(i - 1, "sample"), freed)
        work("gather", record.finish["sample"], finish(i - 1, "gather"), finish(i - 1, "fetch"))
        latest = finish(i - 1, "train") - took["fetch"] if delay else 0.0
        work("fetch", record.finish["gather"], finish(i - 1 - bound, "update"), latest)
        record.fetched = sum(each.finish["update"] <= record.begin["fetch"] + 1e-9 for each in records)
        record.staleness = i - record.fetched
        work("train", record.finish["fetch"], finish(i - 1, "train"))
        record.rows_at = record.begin["train"] + rows * took["train"]
        work("update", record.rows_at, finish(i - 1, "update"))
        records.append(record)
    return records
