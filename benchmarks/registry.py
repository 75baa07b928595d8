"""All benchmarks, in the order in which ``run --all`` takes them."""

from __future__ import annotations

from typing import Any

from benchmarks import (
    batch_size,
    busy_machine,
    gpu,
    gpu_counts,
    growth,
    jodie_time,
    labels,
    large_stream,
    link_ranking,
    model_training,
    parallel_accuracy,
    parallel_equality,
    parallel_rate,
    pipeline_accuracy,
    pipeline_exactness,
    pipeline_modes,
    pipeline_rate,
    refine,
    sampling,
    synthetic_stream,
    tgb_evaluation,
    tgn_accuracy,
    tgn_equality,
    tgn_training,
    timelines,
    two_hosts,
    unstable_sort,
)
from benchmarks.harness.benchmark import Benchmark

BENCHMARKS: dict[str, Benchmark[Any]] = {
    benchmark.name: benchmark
    for benchmark in (
        tgn_training.BENCHMARK,
        model_training.BENCHMARK,
        tgn_equality.BENCHMARK,
        sampling.BENCHMARK,
        sampling.QUERIES,
        unstable_sort.BENCHMARK,
        tgb_evaluation.BENCHMARK,
        growth.BENCHMARK,
        large_stream.BENCHMARK,
        busy_machine.BENCHMARK,
        timelines.BENCHMARK,
        pipeline_rate.BENCHMARK,
        pipeline_modes.RAM,
        pipeline_modes.DISK,
        parallel_rate.BENCHMARK,
        parallel_rate.TWO_LAYERS,
        two_hosts.BENCHMARK,
        parallel_equality.BENCHMARK,
        synthetic_stream.BENCHMARK,
        jodie_time.BENCHMARK,
        labels.NODES,
        labels.EDGES,
        labels.PROPERTIES,
        batch_size.BENCHMARK,
        refine.BENCHMARK,
        tgn_accuracy.BENCHMARK,
        link_ranking.BENCHMARK,
        pipeline_exactness.BENCHMARK,
        parallel_accuracy.BENCHMARK,
        pipeline_accuracy.BENCHMARK,
        pipeline_accuracy.MODELS,
        gpu.BENCHMARK,
        gpu_counts.BENCHMARK,
    )
}
