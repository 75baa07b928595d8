"""Training on a CUDA device gives the numbers of a CPU, and nothing on the device is read or freed too early."""

import pytest

MODELS = {
    "model": ["tgn", "jodie", "dyrep", "apan", "tgat"],
    "staleness": ["sequential", "exact", "minimal", "0", "1", "3"],
    "overlap": ["always", "never"],
    "mitigation": ["none", "similarity", "gated", "predictive"],
    "layers": [1, 2],
    "cut_off": ["batch", "event"],
    "task": ["link", "node", "edge"],
    "memory_device": ["device", "host"],
    "lag": [0, 1, 3],
}
LEFT = {
    "staleness": ["sequential", "exact", "minimal", "3"],
    "memory_device": ["device", "host"],
    "lag": [0, 3],
    "stop_at": [3, 8],
}


def has_memory(case):
    """Whether there is such a run: TGAT has no memory."""
    return case["model"] != "tgat" or (case["mitigation"], case["memory_device"]) == ("none", "device")


MATRICES = {"trained": (MODELS, has_memory), "left": (LEFT, lambda case: True)}


def check(on_cuda, lag, tolerance=0.0, **settings):
    """Trains on the device, and on a CPU where the timing decides no number."""
    decided = settings["overlap"] == "never" or settings["staleness"] in ("sequential", "exact", "0")
    reference = settings | {"memory_device": "device"} if decided else None
    return on_cuda("train", settings, lag=lag, reference=reference, tolerance=tolerance)


def test_every_mode_trains_every_model_as_on_a_cpu(trained, on_cuda):
    check(on_cuda, **trained)


@pytest.mark.parametrize(
    ("more", "tolerance"),
    [
        ({"train_negatives": 3}, 1e-5),
        ({"loss": "softmax", "train_negatives": 3}, 1e-5),
        ({"pair_features": True}, 1e-5),
        ({"head": "common"}, 1e-5),
        ({"negatives": "historical"}, 0.0),
        ({"static_dim": 4, "static_epochs": 1}, 0.0),
        ({"strategy": "uniform", "layers": 2}, 0.0),
        ({"task": "property"}, 0.0),
        ({"precision": "bf16"}, 5e-2),
        ({"protocol": "historical", "filtered": True}, 0.0),
        ({"features": "pinned"}, 0.0),
        ({"features": "mapped"}, 0.0),
    ],
    ids=lambda each: "-".join(map(str, each)) if isinstance(each, dict) else "",
)
def test_each_further_setting_trains_as_on_a_cpu(more, tolerance, on_cuda):
    check(on_cuda, lag=1, tolerance=tolerance, staleness="exact", overlap="always", **more)


def test_a_run_that_was_left_goes_on(left, on_cuda):
    check(on_cuda, overlap="always", checkpoint_every=1, **left)
