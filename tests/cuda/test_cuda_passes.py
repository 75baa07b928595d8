"""Passes through an engine and through loaders on a CUDA device, whole and left early."""

import pytest

MODES = ["sequential", "exact", "minimal", "0", "1", "3"]
ENGINE = {
    "staleness": MODES,
    "overlap": ["always", "never", "auto"],
    "host": [False, True],
    "hops": [1, 2],
    "leave_at": [None, 0, 3, 4],
    "commits": [True, False],
    "lag": [0, 1, 3],
}
LOADERS = {
    "staleness": MODES,
    "overlap": ["always", "never", "auto"],
    "leave_at": [None, 0, 3, 4],
    "look": [False, True],
    "aggregator": ["last", "mean"],
    "hops": [1, 2],
    "lag": [0, 1, 3],
}


MATRICES = {
    "passes": (ENGINE, lambda case: case["leave_at"] is not None or case["commits"]),
    "loaded": (LOADERS, lambda case: True),
}


def split(case):
    """The settings and the lag of a case, and the settings of a run on the CPU, where the timing decides nothing."""
    settings = {name: value for name, value in case.items() if name != "lag"}
    decided = settings["staleness"] in ("sequential", "exact", "0") or settings["overlap"] == "never"
    return settings, case["lag"], settings if decided else None


def test_an_engine_goes_through_two_passes_as_on_a_cpu(passes, on_cuda):
    settings, lag, same = split(passes)
    on_cuda("engine", settings, lag=lag, reference=same and same | {"host": False})


def test_loaders_one_after_the_other_train_as_on_a_cpu(loaded, on_cuda):
    settings, lag, same = split(loaded)
    # Means are sums in another order where torch_scatter takes them on the CPU alone.
    tolerance = 1e-5 if settings["aggregator"] == "mean" else 0.0
    on_cuda("loaders", settings, lag=lag, reference=same, tolerance=tolerance)


@pytest.mark.parametrize("staleness", ["sequential", "exact", "3"])
@pytest.mark.parametrize("lag", [0, 3])
def test_a_loader_without_a_memory_brings_what_it_does_on_a_cpu(staleness, lag, on_cuda):
    settings = {"staleness": staleness, "overlap": "always"}
    on_cuda("without_memory", settings, lag=lag, reference=settings)


def test_steps_of_a_model_that_waits_are_launched_one_operation_at_a_time(on_cuda):
    found = on_cuda("waiting_model", {}, reference={})
    assert found["told"]
    assert all("they wait for the device: _local_scalar_dense" in each for each in found["told"])


def test_a_memory_may_be_made_on_the_device(on_cuda):
    on_cuda("made_on_device", {}, reference={})
