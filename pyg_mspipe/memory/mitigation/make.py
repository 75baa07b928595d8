"""Mitigations by name."""

from __future__ import annotations

import difflib
from typing import get_args

from pyg_mspipe._choices import MitigationName
from pyg_mspipe.graph import SimilarNodes
from pyg_mspipe.memory.mitigation.base import Mitigation
from pyg_mspipe.memory.mitigation.predictive import PredictiveMitigation
from pyg_mspipe.memory.mitigation.similar import GatedMitigation, SimilarityMitigation


def make_mitigation(
    name: MitigationName,
    *,
    num_nodes: int,
    memory_dim: int,
    similar: SimilarNodes | None = None,
    quantile: float = 0.99,
    lam: float = 0.95,
    decay: float = 0.9,
) -> Mitigation:
    """Returns the mitigation of a name.

    Args:
        name: ``none``, ``similarity``, ``gated`` or ``predictive``.
        num_nodes: Number of nodes ``N``.
        memory_dim: Width of the memory.
        similar: The similar nodes that ``similarity`` and ``gated`` need, of the training events.
        quantile: See :class:`SimilarityMitigation`.
        lam: See :class:`SimilarityMitigation`; where ``gated`` starts.
        decay: See :class:`PredictiveMitigation`.

    Raises:
        ValueError: If the name is not known, an option is out of range, or similar nodes are missing or of another
            number of nodes.
    """
    known = get_args(MitigationName)
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=2)
        guess = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ValueError(f"no mitigation is named {name!r}; {guess}known are {', '.join(known)}")
    if name == "predictive":
        return PredictiveMitigation(num_nodes, memory_dim, decay=decay)
    if name == "none":
        return Mitigation()
    if similar is None:
        raise ValueError(f"mitigation {name!r} without similar nodes; pass similar=similar_nodes(src, dst, num_nodes)")
    if similar.num_nodes != num_nodes:
        raise ValueError(f"similar nodes of {similar.num_nodes} nodes, not num_nodes={num_nodes}; compute them anew")
    kind = SimilarityMitigation if name == "similarity" else GatedMitigation
    return kind(similar, quantile=quantile, lam=lam)
