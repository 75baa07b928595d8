"""How long the matrix products of a training step take when nothing else is done."""

from __future__ import annotations

import time
from statistics import median

import torch
from torch import Tensor

from benchmarks.harness.workload import Workload
from benchmarks.peers.builtin import start
from benchmarks.peers.link_loop import DIM, HEADS
from pyg_mspipe import Batches

REPEATS = 50


def product_floor(workload: Workload) -> dict[str, float]:
    """Returns the milliseconds that the built-in TGN's products take, forward and backward, at a typical batch.

    The sizes are those of the batch in the middle of the training events; operands are warm. What a step takes beyond
    this goes into gathers, elementwise work, sampling, the optimizer and Python.
    """
    trainee = start(workload, 0)
    batches = Batches(workload.data, workload.train, workload.batch_size, trainee.sampler, workload.negatives)
    sample = batches.read(0, len(batches) // 2).sample
    nodes, (rows, places) = sample.n_id.numel(), sample.hops[0].mask.shape
    message, inputs, pairs = 3 * DIM + workload.msg_dim, 2 * DIM + workload.msg_dim, workload.batch_size
    return {
        # output and weights' gradient; for the input only the time encoding's columns
        "memory": _linear(nodes, message, 3 * DIM, input_columns=DIM) + _linear(nodes, DIM, 3 * DIM, input_columns=0),
        "attention": 2 * _linear(rows, DIM, DIM, input_columns=DIM)
        # queries into the inputs' space and sums out of it: output and two gradients each
        + 6 * _time(torch.randn(HEADS, rows, DIM // HEADS), torch.randn(HEADS, DIM // HEADS, inputs))
        # scores and sums, forward and backward, and the gradient of inputs and times
        + 6 * _time(torch.randn(rows, HEADS, places), torch.randn(rows, places, inputs)),
        "link predictor": 3 * _linear(pairs, DIM, DIM, input_columns=DIM),
    }


def _linear(rows: int, inputs: int, outputs: int, *, input_columns: int) -> float:
    x, weight, grad = torch.randn(rows, inputs), torch.randn(inputs, outputs), torch.randn(rows, outputs)
    total = _time(x, weight) + _time(grad.t(), x)
    return total + _time(grad, weight.t()[:, :input_columns]) if input_columns else total


def _time(a: Tensor, b: Tensor) -> float:
    """Returns the median of a product's time, in milliseconds."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        torch.matmul(a, b)
        times.append(time.perf_counter() - start)
    return 1000 * median(times)
