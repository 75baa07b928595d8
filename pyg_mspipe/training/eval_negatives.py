"""What a run's validation and test events are ranked among, as its settings say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from torch_geometric.data import TemporalData

from pyg_mspipe.data import DrawNegatives, StreamError, StreamSplit
from pyg_mspipe.data.stream_folder import destination_range
from pyg_mspipe.tasks.protocols import evaluation_negatives
from pyg_mspipe.training.config import TrainConfig


class EvalNegatives:
    """Makes the negatives of the parts of a stream that are evaluated, each once.

    Lists that are made by TGB's rule are kept in a folder beside the stream's file, ``STREAM.negatives``; or in the
    run's folder, where there is no such file or its folder may not be written to.

    Args:
        config: The run's settings.
        data: The stream.
        split: Its parts.
        num_nodes: Number of nodes.
        source: How the stream was loaded, if it was.
        folder: The run's folder, if it has any.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: TemporalData,
        split: StreamSplit,
        num_nodes: int,
        *,
        source: Mapping[str, Any],
        folder: Path | None,
    ) -> None:
        self._config = config
        self._data = data
        self._split = split
        self._num_nodes = num_nodes
        self._source = source
        self._folder = folder
        self.of = cache(self._of)

    def _of(self, part: str, num: int, seed: int | None = None) -> DrawNegatives:
        """Returns the negatives of a part.

        Args:
            part: ``"val"`` or ``"test"``.
            num: Negatives for each event.
            seed: The seed, if other than the run's.

        Raises:
            ValueError: If there is nothing to draw, or lists do not fit the stream or have no place.
        """
        config = self._config
        # Only destinations up to the part's end: later ones are not known yet.
        nodes = config.negatives == "nodes"
        stop = getattr(self._split, part).stop
        low, high = (0, self._num_nodes - 1) if nodes else destination_range(self._data, stop)
        return evaluation_negatives(
            config.protocol,
            self._data,
            self._split,
            cast(Literal["val", "test"], part),
            num=num,
            seed=config.seed if seed is None else seed,
            low=low,
            high=high,
            filtered=config.filtered,
            name=self._source.get("name_or_path"),
            root=Path(self._source.get("root", "data")),
            cache=self._cache(),
        )

    def _cache(self) -> Path | None:
        stream = Path(self._source.get("name_or_path", ""))
        beside = stream.parent / f"{stream.name}.negatives"
        if stream.is_file() and os.access(beside if beside.is_dir() else stream.parent, os.W_OK):
            if beside.exists() and not beside.is_dir():
                raise StreamError(
                    f"{beside} is a file, and the folder of this stream's lists of negatives; move it away"
                )
            return beside
        return None if self._folder is None else self._folder / "negatives"
