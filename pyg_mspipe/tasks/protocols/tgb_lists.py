"""TGB's own lists of negatives, of its sets for link prediction."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from pyg_mspipe.data.errors import StreamError
from pyg_mspipe.data.named import read_tgb_negatives
from pyg_mspipe.data.tables import Array
from pyg_mspipe.tasks.protocols.candidates import Candidates
from pyg_mspipe.tasks.protocols.met import TrueDestinations

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData


def official_candidates(
    name: str, root: Path, data: TemporalData, events: range, part: Literal["val", "test"]
) -> Candidates:
    """Returns the lists that TGB's leaderboards rank events among, through py-tgb.

    Args:
        name: The set's name, such as ``tgbl-wiki``.
        root: The folder that published sets are downloaded to.
        data: The set, as :func:`~pyg_mspipe.load_stream` gives it.
        events: The events of the part.
        part: Which part they are.

    Raises:
        StreamError: If py-tgb is not installed, the set cannot be downloaded, or an event has no list.
    """
    try:
        return candidates_of_keys(read_tgb_negatives(name, root, part), data, events)
    except KeyError as error:
        raise StreamError(
            f"{name}: {error.args[0]} has no list of negatives among TGB's of its {part} events; leave out the options "
            f"that split or change the stream"
        ) from None


def candidates_of_keys(lists: Mapping[tuple[int, int, int], Array], data: TemporalData, events: range) -> Candidates:
    """Returns lists by event of lists by source, destination and time, as py-tgb's generator writes them.

    Events with the same source, destination and time have the same list.

    Args:
        lists: Destinations, [k], by source, destination and time.
        data: The stream.
        events: The events.

    Raises:
        KeyError: If an event has no list; its text names the event.
    """
    part = slice(events.start, events.stop)
    src, dst, t = (data[name][part].cpu() for name in ("src", "dst", "t"))
    met = TrueDestinations.from_events(src, dst, t)
    key = torch.from_numpy(np.array(list(lists), dtype=np.int64).reshape(-1, 3))
    entry = met.find(key[:, 0], key[:, 2], key[:, 1])
    known = (entry >= 0).nonzero().squeeze(1)
    list_of = torch.full_like(met.triple, -1)
    list_of[entry[known]] = known
    which = list_of[met.find(src, t, dst)]
    if bool((which < 0).any()):
        odd = int((which < 0).nonzero()[0])
        raise KeyError(f"event {events.start + odd} (from {int(src[odd])} to {int(dst[odd])} at time {int(t[odd])})")
    values = list(lists.values())
    # Where some are historical and others are not, py-tgb writes whole numbers as floats.
    chosen = [values[each].astype(np.int64) for each in which.tolist()]
    ptr = torch.from_numpy(np.cumsum([0, *map(len, chosen)]))
    return Candidates(events.start, ptr, torch.from_numpy(np.concatenate(chosen)))
