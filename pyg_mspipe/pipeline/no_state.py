"""The state of no memory, where a loop reads and writes its memory itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyg_mspipe.memory import NodeState


class NoState(NodeState):
    """Nothing is read for a batch, and nothing written."""

    @property
    def mitigates(self) -> bool:
        """Whether stale rows are repaired: there are none."""
        return False

    def fetch(self, batch: Any, *, mitigated: bool = False) -> None:
        """Reads nothing."""

    def apply(self, commit: Any) -> None:
        """Writes nothing."""

    def catch_up(self, rows: Any, commits: Sequence[Any]) -> None:
        """Does nothing."""

    def note_missed(self, rows: Any, commits: Sequence[Any]) -> None:
        """Does nothing."""
