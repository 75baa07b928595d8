"""The file that holds a run's static node vectors, once for all its checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyg_mspipe.distributed.team import Team
from pyg_mspipe.memory import StaticMemory
from pyg_mspipe.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from pyg_mspipe.training.config import TrainConfig
from pyg_mspipe.training.run_folder import STATIC

# The settings that decide the vectors.
_SETTINGS = (
    "seed",
    "lr",
    "static_dim",
    "static_epochs",
    "time_dim",
    "embedding_dim",
    "layers",
    "heads",
    "dropout",
    "time_init",
    "num_neighbors",
    "strategy",
    "cut_off",
    "negatives",
)


def static_key(stream: str, num_events: int, config: TrainConfig) -> dict[str, Any]:
    """Returns what decides a run's static node vectors, as plain values.

    Args:
        stream: Fingerprint of the whole stream.
        num_events: How many events of the stream are trained on.
        config: The run's settings.
    """
    return {"stream": stream, "num_events": num_events} | {name: getattr(config, name) for name in _SETTINGS}


def static_digest(vectors: Tensor) -> str:
    """Returns a digest by which a checkpoint knows its vectors, Float32[N, static_dim]."""
    values = vectors.detach().to("cpu", torch.float32).contiguous()
    digest = hashlib.blake2b(str(tuple(values.shape)).encode(), digest_size=16)
    digest.update(values.numpy().data.cast("B"))
    return digest.hexdigest()


class StaticVectors:
    """The static node vectors of a run: trained before the run, or found in its folder.

    Args:
        memory: The model's static memory, filled here; without one nothing is done.
        folder: The run's folder.
        team: The run's processes; the first one trains or reads the vectors and sends them to the others.

    Attributes:
        digest: The digest of the memory's vectors; empty without any.
    """

    def __init__(self, memory: StaticMemory | None, folder: Path | None, team: Team) -> None:
        self._memory = memory
        self._path = None if folder is None else folder / STATIC
        self._team = team
        self.digest = ""

    def train(self, key: dict[str, Any], pretrain: Callable[[], Tensor]) -> None:
        """Finds the vectors of a new run in its folder, or else trains them.

        Args:
            key: What decides the vectors, see :func:`static_key`.
            pretrain: Trains the vectors and returns them, Float32[N, static_dim].
        """

        def vectors() -> Tensor:
            found = self._find(key)
            if found is None:
                found = pretrain()
                if self._path is not None:
                    save_checkpoint(self._path, {"made_from": key, "vectors": found})
            return found

        self._fill(vectors)

    def load(self, digest: str) -> None:
        """Reads the vectors of a checkpoint, unless the memory has them already.

        Args:
            digest: The vectors' digest, from the checkpoint.

        Raises:
            CheckpointError: If the folder has no such vectors.
        """
        if digest != self.digest:
            self._fill(lambda: self._read(digest))

    def _find(self, key: dict[str, Any]) -> Tensor | None:
        """Returns the file's vectors if they were made from ``key``, else None."""
        try:
            content = {} if self._path is None else load_checkpoint(self._path)
        except CheckpointError:
            return None
        return content["vectors"] if content.get("made_from") == key else None

    def _read(self, digest: str) -> Tensor:
        """Returns the file's vectors, and refuses others than those that a checkpoint was trained with."""
        path = self._path
        if path is None:
            raise CheckpointError(f"the static node vectors are in {STATIC} beside the checkpoint; give that folder")
        if not path.is_file():
            raise CheckpointError(
                f"{path}: no such file; the run cannot continue without its static node vectors; put the file back, "
                "or train again"
            )
        vectors = load_checkpoint(path).get("vectors")
        if not isinstance(vectors, Tensor) or static_digest(vectors) != digest:
            raise CheckpointError(
                f"{path}: not the static node vectors that the checkpoint was trained with; put the run's own file "
                "back, or train again"
            )
        return vectors

    def _fill(self, vectors: Callable[[], Tensor]) -> None:
        memory = self._memory
        if memory is None:
            return

        def fill() -> str:
            found = vectors()
            memory.load(found)
            return static_digest(found)

        self.digest = self._team.first(fill)
        self._team.share(memory.table)
