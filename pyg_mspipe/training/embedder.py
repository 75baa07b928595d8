"""The model of an earlier run as the embedder of another, which trains a task's head on what it embeds."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

from pyg_mspipe.models import TemporalModel
from pyg_mspipe.training.checkpoint import CheckpointError
from pyg_mspipe.training.config import ConfigError, TrainConfig
from pyg_mspipe.training.features import RunFeatures, check_same_features
from pyg_mspipe.training.run_checkpoint import load_run_checkpoint
from pyg_mspipe.training.run_folder import BEST

# Settings beside those of the model itself that decide what it embeds.
_READ_ALIKE = ("num_neighbors", "strategy", "cut_off")


def with_embedder(config: TrainConfig) -> TrainConfig:
    """Returns settings with those of the run whose model embeds, if ``config.embeddings`` names one that is there.

    Args:
        config: The run's settings.

    Raises:
        ConfigError: If the settings say otherwise than that run's.
    """
    if not config.embeddings or not (Path(config.embeddings) / BEST).exists():
        return config
    theirs = load_run_checkpoint(Path(config.embeddings) / BEST)["config"]
    taken = {}
    for each in fields(config):
        if each.metadata["group"] != "Model" and each.name not in _READ_ALIKE:
            continue
        own, found = getattr(config, each.name), theirs[each.name]
        if own not in (each.default, found):
            raise ConfigError(
                f"{each.name} is {own}, and {found} in the run {config.embeddings} whose model embeds; leave it out"
            )
        taken[each.name] = found
    if taken["static_dim"]:
        raise ConfigError(
            f"the model of {config.embeddings} has static node vectors, which no other run can take; choose a run "
            f"without static_dim"
        )
    return replace(config, **taken)


def load_embedder(config: TrainConfig, model: TemporalModel, features: RunFeatures) -> None:
    """Gives a model the weights of the run whose model embeds, if ``config.embeddings`` names one.

    Args:
        config: The run's settings.
        model: Of that run's class and sizes.
        features: The features beside the stream.

    Raises:
        CheckpointError: If there is no such run, or it has another model or other features.
    """
    if not config.embeddings:
        return
    path = Path(config.embeddings) / BEST
    checkpoint = load_run_checkpoint(path)
    if checkpoint["names"]["model"] != model.name:
        raise CheckpointError(
            f"{path} is of model {checkpoint['names']['model']}, this run has {model.name}; leave out the "
            f"model, or give the one that it was trained with"
        )
    check_same_features(checkpoint["features"], features)
    try:
        model.load_state_dict(checkpoint["model"])
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} does not fit this stream, whose messages or features have another width; give a run on a stream "
            f"of the same form"
        ) from error
