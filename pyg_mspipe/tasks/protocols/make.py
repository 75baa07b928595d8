"""The negatives of an evaluation protocol, by name or from a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from pyg_mspipe._choices import ProtocolName
from pyg_mspipe.data.named import TGB_NAMES
from pyg_mspipe.data.negatives import DrawNegatives
from pyg_mspipe.data.splits import StreamSplit
from pyg_mspipe.tasks.protocols.candidate_files import read_candidates
from pyg_mspipe.tasks.protocols.met import TrueDestinations
from pyg_mspipe.tasks.protocols.poursafaei import PastPairs
from pyg_mspipe.tasks.protocols.random import RandomNegatives
from pyg_mspipe.tasks.protocols.tgb import saved_tgb_candidates, tgb_candidates
from pyg_mspipe.tasks.protocols.tgb_lists import official_candidates

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData


def evaluation_negatives(
    protocol: ProtocolName | Path,
    data: TemporalData,
    split: StreamSplit,
    part: Literal["val", "test"],
    *,
    num: int,
    seed: int,
    low: int,
    high: int,
    filtered: bool = False,
    name: str | None = None,
    root: Path = Path("data"),
    cache: Path | None = None,
) -> DrawNegatives:
    """Returns what the events of a part are ranked among.

    Args:
        protocol: ``"random"``: see :class:`RandomNegatives`. ``"historical"`` and ``"inductive"``: see
            :class:`PastPairs`. ``"tgb"``: for a set ``tgbl-*`` TGB's own lists, whose number and seed are what they
            are, and for any other stream lists by the same rule, see :func:`tgb_candidates`. Or the path of a file of
            candidates, see :func:`read_candidates`.
        data: The stream.
        split: The parts of the stream.
        part: Which part is evaluated.
        num: Negatives for each event.
        seed: A non-negative integer. The two parts draw different negatives.
        low: The smallest destination of random negatives; ``"tgb"`` takes the range of all destinations instead.
        high: The largest.
        filtered: Whether no negative is a true event at the event's time; with ``"tgb"`` none ever is.
        name: The stream's name, if it has one.
        root: The folder that published sets are downloaded to.
        cache: The folder in which lists by TGB's rule are kept for the next time; by default they are not kept.

    Raises:
        ValueError: If the protocol is unknown, there is nothing to draw, or a file is not what it should be.
        OSError: If lists cannot be kept.
    """
    events: range = getattr(split, part)
    if isinstance(protocol, Path):
        return read_candidates(protocol, data, events)
    if protocol not in get_args(ProtocolName):
        raise ValueError(
            f"protocol {protocol!r} is unknown; choose one of {', '.join(get_args(ProtocolName))}, or give the path of "
            f"a file of candidates"
        )
    own_seed = (seed, ("train", "val", "test").index(part))
    if protocol == "tgb":
        if name in TGB_NAMES and name.startswith("tgbl-"):
            return official_candidates(name, root, data, events, part)
        if cache is None:
            return tgb_candidates(data, split.train, events, num, seed=own_seed)
        cache.mkdir(parents=True, exist_ok=True)
        # With the split, so that runs that split the stream in other ways have lists beside one another.
        path = cache / f"tgb_{part}_{num}_seed{seed}_{split.train.stop}_{events.start}-{events.stop}.parquet"
        return saved_tgb_candidates(data, split.train, events, num, seed=own_seed, path=path)
    met = TrueDestinations.from_stream(data) if filtered else None
    if protocol == "random":
        return RandomNegatives(low, high, num, seed=own_seed, met=met)
    first_seen = split.train if protocol == "historical" else events
    return PastPairs(data, first_seen, num, low=low, high=high, seed=own_seed, met=met)
