import math
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from pyg_mspipe.training import ConfigError, TrainConfig

WHOLE = [setting.name for setting in fields(TrainConfig) if setting.type == "int"]
REAL = [setting.name for setting in fields(TrainConfig) if setting.type == "float"]
CHOICES = {
    "class_weights": "none, balanced",
    "head": "mlp, common",
    "loss": "bce, softmax",
    "precision": "fp32, bf16",
    "time_init": "random, log",
    "time_reference": "start, gaps",
    "strategy": "recent, uniform",
    "cut_off": "batch, event",
    "negatives": "destinations, nodes, historical",
    "protocol": "random, historical, inductive, tgb",
    "best_by": "ap, auc, mrr, hits_10",
    "overlap": "auto, always, never",
    "mitigation": "none, similarity, gated, predictive",
    "lr_scaling": "linear, sqrt, none",
}
OTHERS = [
    "model",
    "task",
    "labels",
    "embeddings",
    "device",
    "filtered",
    "pair_features",
    "tensorboard",
    "staleness",
    "timeline",
    "parallel",
    "val_time",
    "test_time",
]
LOW = {setting.name: setting.metadata["low"] for setting in fields(TrainConfig)}


def refused(message, **settings):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**settings)


def test_the_defaults_are_valid_and_come_back_from_plain_values():
    assert TrainConfig(**asdict(TrainConfig())) == TrainConfig()


def test_every_setting_says_what_it_is():
    assert sorted([*WHOLE, *REAL, *CHOICES, *OTHERS]) == sorted(setting.name for setting in fields(TrainConfig))
    assert all(setting.metadata["help"].endswith(".") for setting in fields(TrainConfig))


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", [1.0, "1", True, None, [1]])
def test_whole_numbers_are_not_anything_else(name, value):
    refused(f"^{name} is .*; give a whole number$", **{name: value})


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("value", ["0.1", True, None, [0.1]])
def test_numbers_are_not_anything_else(name, value):
    refused(f"^{name} is .*; give a number$", **{name: value})


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.1, -1])
def test_numbers_are_finite_and_not_negative(name, value):
    refused(f"^{name} is .*; give a number from {LOW[name]}$", **{name: value})


def test_a_timeline_may_be_a_path():
    assert TrainConfig(timeline=Path("out.json")) == TrainConfig(timeline="out.json")
    refused("^timeline is 5; give a text$", timeline=5)


def test_times_of_a_split_are_whole_or_not_given():
    for value in (1.0, "1", True, [1]):
        refused("^val_time is .*; give a whole number$", val_time=value)
    refused(rf"^test_time is {2**63}; give a number below 2\*\*63$", test_time=2**63)
    assert TrainConfig(val_time=-5, test_time=None).split() == {
        "val_ratio": 0.15,
        "test_ratio": 0.15,
        "val_time": -5,
        "test_time": None,
    }


def test_a_timeout_is_a_second_at_least():
    refused("^timeout is 0.5; give a number from 1$", timeout=0.5)
    assert TrainConfig(timeout=1).timeout == 1.0


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers_have_a_least_and_a_largest_value(name):
    low = LOW[name]
    assert low in (0, 1)
    for value in (low - 1, -(10**30)):
        refused(f"^{name} is {value}; give a number from {low}$", **{name: value})
    refused(rf"^{name} is {2**63}; give a number below 2\*\*63$", **{name: 2**63})


@pytest.mark.parametrize(("name", "choices"), list(CHOICES.items()))
@pytest.mark.parametrize("value", ["", "Batch", 1, None, ["batch"]])
def test_choices_are_named(name, choices, value):
    with pytest.raises(ConfigError) as raised:
        TrainConfig(**{name: value})
    assert str(raised.value).startswith(f"{name} is {value!r}; choose one of ")
    assert sorted(str(raised.value).split(" of ")[1].split(", ")) == sorted(choices.split(", "))


def test_texts_and_switches_are_not_anything_else():
    for value in (0, None, b"cpu"):
        refused("^device is .*; give a text$", device=value)
    for value in (0, 1, "true", None):
        refused("^tensorboard is .*; give true or false$", tensorboard=value)


def test_heads_divide_the_embedding():
    refused("embedding_dim 100 is not a multiple of heads 3; change either", heads=3)
    assert TrainConfig(embedding_dim=99, heads=3).heads == 3


def test_dropout_leaves_something():
    refused("dropout is 1.0; give a number from 0 to below 1", dropout=1)
    refused("dropout is 1.5; give a number from 0 to below 1", dropout=1.5)
    refused("static_dropout is 1.0; give a number from 0 to below 1", static_dropout=1)


def test_a_whole_number_is_a_number():
    config = TrainConfig(lr=1)
    assert (config.lr, type(config.lr)) == (1.0, float)


@pytest.mark.parametrize("staleness", ["minimal", "0", "17", 3])
def test_staleness_is_a_mode_or_a_whole_number(staleness):
    assert TrainConfig(staleness=staleness).staleness == str(staleness)


@pytest.mark.parametrize("staleness", ["fast", "-1", -1, 1.5, True, None])
def test_other_staleness_is_refused_with_the_choices(staleness):
    refused("^staleness is .*; choose sequential, exact, minimal or a whole number from 0$", staleness=staleness)


@pytest.mark.parametrize("text", ["1x2x3", " 1 x 2 x 3 ", "1X2X3"])
def test_a_plan_is_kept_in_one_form(text):
    assert TrainConfig(parallel=text).parallel == "1x2x3"


@pytest.mark.parametrize("plan", ["", "2", "1x2", "1x2x0", "1x2x-1", "1x2x1.5"])
def test_what_is_no_plan_is_refused_with_its_form(plan):
    refused("^(plan .* of the form|k is 0 in a plan) i x j x k; give .* as in 1x2x2$", parallel=plan)


@pytest.mark.parametrize("plan", [2, None, True])
def test_a_plan_is_a_text(plan):
    refused("^parallel is .*; give a text$", parallel=plan)


@pytest.mark.parametrize("plan", ["2x1x1", "1x2x1", "2x2x2"])
def test_trainers_that_share_a_memory_have_no_staleness_and_nothing_to_repair(plan):
    for staleness in ("1", "0", 3):
        refused(rf"^staleness {staleness} with [24] trainers on one memory", parallel=plan, staleness=staleness)
    for mitigation in ("similarity", "gated", "predictive"):
        refused(rf"^mitigation {mitigation} has nothing to repair", parallel=plan, mitigation=mitigation)
    for staleness in ("sequential", "exact", "minimal"):
        assert TrainConfig(parallel=plan, staleness=staleness).parallel == plan


def test_trainers_with_a_memory_of_their_own_may_have_staleness_and_repair_it():
    config = TrainConfig(parallel="1x1x4", staleness="2", mitigation="predictive")
    assert (config.staleness, config.mitigation) == ("2", "predictive")
