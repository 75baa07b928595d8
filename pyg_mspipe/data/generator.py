"""A generated stream, in which a source's own past predicts its next destination and popularity says little."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from pyg_mspipe.data.errors import StreamError
from pyg_mspipe.data.temporal_data import temporal_data
from pyg_mspipe.data.validation import Fields

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData

_DAY = 86_400
_DAYS = 30
_MEAN_SESSION = 4.0  # events that a source makes in one go
_MEAN_GAP = 90.0  # seconds between the events of a session
_ACTIVITY_EXPONENT = 0.8  # the source of rank r is active in proportion to r ** -0.8
_RETURN_PROBABILITY = 0.6
_SWITCH_PROBABILITY = 0.03
_ITEMS_PER_COMMUNITY = 40

Ints = npt.NDArray[np.int64]


def synthetic(
    num_events: int = 20_000,
    *,
    num_src: int = 1_000,
    num_dst: int = 1_000,
    bipartite: bool = True,
    msg_dim: int = 32,
    labels: bool = False,
    seed: int = 0,
) -> TemporalData:
    """Returns 30 days of generated events; the same arguments give the same stream.

    Destinations belong to communities of equal size. A source is interested in one community at a time, and with every
    event it may turn to another. It acts in sessions, mostly in the afternoon, and the activity of
    sources follows a power law. Each event either returns to a destination of the source's last few events, or goes to
    a destination of the community, all of them equally likely. So no destination stays ahead of the others, and
    counting how often each was used says little about the next event, while the source's own past and its interest say
    much.

    Args:
        num_events: `E`.
        num_src: How many sources there are; the least active may have no event.
        num_dst: How many destinations there are.
        bipartite: Destinations are numbered behind the sources, from `num_src`. If false both are numbered from 0, so
            that nodes have both roles and self-loops occur.
        msg_dim: The width of `msg`: noisy vectors of the destination's community; 0 for none.
        labels: Add `y: Int64[E]`, 1 where the source turns to a new interest.
        seed: Decides all draws.

    Returns:
        A stream as `check_stream` gives it, `t` in seconds from 0.

    Raises:
        StreamError: If a size is out of range.

    Example:
        >>> from pyg_mspipe import synthetic
        >>> data = synthetic(500, num_src=50, num_dst=40, msg_dim=4)
        >>> data.num_events, data.msg.shape, int(data.src.max()) < 50 <= int(data.dst.min())
        (500, torch.Size([500, 4]), True)
    """
    return temporal_data(
        synthetic_fields(
            num_events,
            num_src=num_src,
            num_dst=num_dst,
            bipartite=bipartite,
            msg_dim=msg_dim,
            labels=labels,
            seed=seed,
        )
    )


def synthetic_fields(
    num_events: int = 20_000,
    *,
    num_src: int = 1_000,
    num_dst: int = 1_000,
    bipartite: bool = True,
    msg_dim: int = 32,
    labels: bool = False,
    seed: int = 0,
) -> Fields:
    """Returns the fields of the stream that `synthetic` gives for the same arguments, without loading PyG."""
    for name, size, least in (
        ("num_events", num_events, 1),
        ("num_src", num_src, 1),
        ("num_dst", num_dst, 1),
        ("msg_dim", msg_dim, 0),
        ("seed", seed, 0),
    ):
        if size < least:
            raise StreamError(f"{name} is {size}; give at least {least}")
    rng = np.random.default_rng(seed)
    src, t = _sessions(rng, num_events, num_src)
    num_communities = -(-num_dst // _ITEMS_PER_COMMUNITY)
    by_source = src.argsort(kind="stable")  # events ordered by source, then by time
    is_first = np.diff(src[by_source], prepend=-1) != 0
    begins = _interest_begins(rng, is_first)
    community_of = rng.integers(num_communities, size=num_events)[begins]
    chosen = _choose(rng, begins, community_of, num_dst, num_communities)

    dst, community, turned = np.empty_like(src), np.empty_like(src), np.empty(num_events, dtype=np.int64)
    dst[by_source], community[by_source] = chosen, community_of
    turned[by_source] = (begins == np.arange(num_events)) & ~is_first
    centers = rng.standard_normal((num_communities, msg_dim), dtype=np.float32)
    noise = rng.standard_normal((num_events, msg_dim), dtype=np.float32)
    fields = {
        "src": src,
        "dst": dst + num_src if bipartite else dst,
        "t": t,
        "msg": centers[community] + 0.5 * noise,
    }
    return {name: torch.from_numpy(values) for name, values in (fields | ({"y": turned} if labels else {})).items()}


def _sessions(rng: np.random.Generator, num_events: int, num_src: int) -> tuple[Ints, Ints]:
    """Returns the source and the time of each event, sorted by time."""
    lengths = rng.geometric(1.0 / _MEAN_SESSION, size=num_events)
    session = np.repeat(np.arange(num_events), lengths)[:num_events]
    num_sessions = session[-1] + 1
    activity = np.arange(1, num_src + 1) ** -_ACTIVITY_EXPONENT
    source_of = rng.permutation(num_src)[rng.choice(num_src, size=num_sessions, p=activity / activity.sum())]
    hour = rng.normal(15.0, 4.0, size=num_sessions) % 24.0
    start = rng.integers(_DAYS, size=num_sessions) * _DAY + hour * 3600.0
    elapsed = np.cumsum(rng.exponential(_MEAN_GAP, size=num_events))
    first = np.searchsorted(session, np.arange(num_sessions))
    t = (start[session] + elapsed - elapsed[first][session]).astype(np.int64)
    order = t.argsort(kind="stable")
    return source_of[session[order]], t[order]


def _interest_begins(rng: np.random.Generator, is_first: npt.NDArray[np.bool_]) -> Ints:
    """Returns, for events ordered by source, the position of the event with which each event's interest began."""
    num_events = len(is_first)
    turns = is_first | (rng.random(num_events) < _SWITCH_PROBABILITY)
    begins: Ints = np.maximum.accumulate(np.where(turns, np.arange(num_events), 0))
    return begins


def _choose(rng: np.random.Generator, begins: Ints, community: Ints, num_dst: int, num_communities: int) -> Ints:
    """Returns, for events ordered by source, their destinations from 0.

    A destination is that of one of the source's last few events, or any of its community.
    """
    num_events = len(begins)
    position = np.arange(num_events)
    lag = np.minimum(rng.geometric(0.4, size=num_events), position - begins)
    origin = position - lag * (rng.random(num_events) < _RETURN_PROBABILITY)
    # a return to a return leads to the first pick; each round doubles the steps taken
    while not np.array_equal(further := origin[origin], origin):
        origin = further
    num_members = (num_dst - community + num_communities - 1) // num_communities
    member = (rng.random(num_events) * num_members).astype(np.int64)
    picked = rng.permutation(num_dst)[community + num_communities * member]
    destination: Ints = picked[origin]
    return destination
