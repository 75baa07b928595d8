"""The rank of every event in a Parquet file, from which anybody can make metrics of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pyg_mspipe.data.atomic_write import atomic_write
from pyg_mspipe.data.event_groups import EventGroups
from pyg_mspipe.tasks.ranking import Ranking

if TYPE_CHECKING:
    import pyarrow
    from torch_geometric.data import TemporalData

_BY_NEW_ENDS = np.array(["transductive", "inductive", "new-new"])


def rank_table(
    data: TemporalData, part: str, events: range, scores: Sequence[Tensor], groups: EventGroups
) -> pyarrow.Table:
    """Returns a table with a row for each event of a part of the stream.

    Its columns are ``event``, ``src``, ``dst``, ``t``, ``rank`` (1 plus the negatives above plus half of those level),
    ``num_negatives``, ``part``, ``group`` (``transductive``; ``inductive``, where one end has no training event;
    ``new-new``, where neither has), ``activity`` (events of the source before the part) and ``quartile`` of the
    activity, 1 to 4. The mean of ``1 / rank`` is the MRR. What metrics call inductive is ``inductive`` or ``new-new``.

    Args:
        data: The stream.
        part: The part's name.
        events: The event ids of the part.
        scores: The scores of each batch of the part in order, Float32[4, B], see :attr:`Ranking.table`.
        groups: The groups of the stream's events.
    """
    # Imported here, as few evaluations write ranks.
    import pyarrow

    ranking = Ranking.together([Ranking.from_table(each) for each in scores])
    own = slice(events.start, events.stop)
    columns = {"event": torch.arange(events.start, events.stop)}
    columns |= {name: data[name][own].cpu() for name in ("src", "dst", "t")}
    columns |= {"rank": ranking.rank, "num_negatives": ranking.num_negatives.int()}
    arrays = {name: pyarrow.array(each.numpy()) for name, each in columns.items()}
    arrays["part"] = pyarrow.repeat(part, len(events))
    arrays["group"] = pyarrow.array(_BY_NEW_ENDS[groups.new_ends(events).numpy()])
    arrays["activity"] = pyarrow.array(groups.activity(events).numpy())
    arrays["quartile"] = pyarrow.array(groups.quartile(events).to(torch.int8).numpy())
    return pyarrow.table(arrays)


def write_ranks(path: Path, tables: Sequence[pyarrow.Table]) -> None:
    """Writes ranks to a Parquet file, which is complete or, if this is interrupted, what it was before.

    Args:
        path: The file.
        tables: What :func:`rank_table` gave for each part of the stream.

    Raises:
        OSError: If the file cannot be written.
    """
    import pyarrow
    from pyarrow import parquet

    with atomic_write(path) as file:
        parquet.write_table(pyarrow.concat_tables(tables), file)
