"""A run's training, once its stream is read."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from torch_geometric.data import TemporalData

from pyg_mspipe.cli import inputs
from pyg_mspipe.cli.finished import finished, is_finished
from pyg_mspipe.cli.launch import Launch
from pyg_mspipe.data import FeatureStore
from pyg_mspipe.training import Interrupted, Trainer, keep_freed_memory
from pyg_mspipe.training.making import without_meaning
from pyg_mspipe.training.run_folder import BEST, LAST

_NEAR_CHANCE = 0.05
_A_FEW_EPOCHS = 3


def make_trainer(
    launch: Launch,
    data: TemporalData,
    folder: Path,
    source: dict[str, Any],
    stores: dict[str, FeatureStore | None],
) -> Trainer:
    """Returns the trainer of a run.

    Args:
        launch: How the run was started.
        data: Its stream.
        folder: Its folder.
        source: How the stream was loaded.
        stores: Its features, by the trainer's argument.
    """
    return Trainer(
        data,
        launch.config,
        folder,
        executor=launch.executor(),
        console=Console(),
        source=source,
        similar_cache=inputs.similar_cache(source),
        features=stores["features"],
        node_features=stores["node_features"],
    )


def go_on(launch: Launch, trainer: Trainer, folder: Path, checkpoint: dict[str, Any]) -> None:
    """Trains the rest of a run.

    Args:
        launch: How the run was started.
        trainer: Its trainer.
        folder: Its folder.
        checkpoint: Where to go on from.
    """
    trainer.load(checkpoint)
    progress = trainer.progress
    if is_finished(asdict(progress), trainer.config.epochs):
        launch.echo(finished(folder, asdict(progress)))
        return
    launch.echo(f"resuming {folder} at epoch {progress.epoch + 1}, batch {progress.batch}")
    fit(launch, trainer, folder)


def fit(launch: Launch, trainer: Trainer, folder: Path, *, replace: bool = False) -> None:
    """Trains a run to its end, and says how it went.

    Args:
        launch: How the run was started.
        trainer: Its trainer.
        folder: Its folder.
        replace: Whether a run that the folder has is replaced.
    """
    keep_freed_memory()
    fresh = trainer.progress.step == 0
    unused = without_meaning(trainer.config, trainer.model) if fresh else []
    if unused:
        launch.echo(f"model {trainer.config.model} has no {', '.join(unused)}: what was given is passed over")
    if trainer.task.labels is not None and trainer.task.labels.dropped:
        launch.echo(f"labels after the last event are left out: {trainer.task.labels.dropped:,}")
    epochs, at_once = trainer.config.epochs, trainer.plan.epochs_per_sweep
    whole = trainer.plan.sweeps(epochs) * at_once
    if whole != epochs:
        launch.echo(f"plan {trainer.config.parallel} trains {at_once} epochs in a sweep: {epochs} become {whole}")
    try:
        progress = trainer.fit(replace=replace)
    except Interrupted:
        if not launch.leads:
            raise
        if not (folder / LAST).exists():
            raise Interrupted("interrupted before the first batch; start again with the same command") from None
        start = "mspipe" if launch.world is None else "torchrun ... -m pyg_mspipe"
        raise Interrupted(f"interrupted; go on with: {start} resume {folder}") from None
    timeline = trainer.config.timeline
    if timeline and fresh:
        others = "" if launch.world is None or launch.world.plan.world == 1 else ", those of the other ranks beside it"
        launch.echo(f"timeline in {timeline}{others}; read it with: mspipe timeline {timeline}")
    task = trainer.task
    near_chance = task.chance is not None and progress.best < task.chance + _NEAR_CHANCE
    if near_chance and progress.epoch >= _A_FEW_EPOCHS:
        launch.echo(
            f"validation {task.best_label} is near {task.chance:g}, which is chance: check that mspipe data info shows "
            "the events, nodes and times that you expect, train more epochs, or try another --lr or --time-init log"
        )
    why = "stopped early, " if progress.stopped else ""
    launch.echo(
        f"{why}best validation {task.best_label} {progress.best:.4f} in epoch {progress.best_epoch + 1} "
        f"(cut-off {trainer.config.cut_off}); checkpoint {folder / BEST}"
    )
