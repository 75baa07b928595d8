"""How many rows the parts of a batch have."""

from __future__ import annotations

from dataclasses import dataclass

_ROUND = 64


@dataclass(frozen=True)
class BatchSize:
    """How many rows the parts of a batch have.

    Attributes:
        nodes: Nodes that are read, ``U``.
        targets: Target rows of each hop, ``R``.
        committed: Nodes that the events touch, ``C``.
        mails: Mails that are delivered; 0 where nodes have no mailboxes.
    """

    nodes: int
    targets: tuple[int, ...]
    committed: int
    mails: int = 0

    def holds(self, other: BatchSize) -> bool:
        """Returns whether a batch of another size fits into this one."""
        return (
            self.nodes >= other.nodes
            and self.committed >= other.committed
            and self.mails >= other.mails
            and all(own >= each for own, each in zip(self.targets, other.targets, strict=True))
        )

    def joined(self, other: BatchSize) -> BatchSize:
        """Returns the least size that holds both."""
        targets = tuple(map(max, self.targets, other.targets))
        return BatchSize(
            max(self.nodes, other.nodes), targets, max(self.committed, other.committed), max(self.mails, other.mails)
        )

    def rounded(self, factor: float = 1.0) -> BatchSize:
        """Returns the size times a factor, of round numbers."""

        def up(count: int) -> int:
            return -(-int(count * factor) // _ROUND) * _ROUND

        return BatchSize(up(self.nodes), tuple(map(up, self.targets)), up(self.committed), up(self.mails))
