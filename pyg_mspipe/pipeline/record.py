"""The record of a batch's way through the pipeline: when each stage worked on it, and how stale its memory was."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

StageName = Literal["sample", "gather", "fetch", "train", "update"]
STAGES: tuple[StageName, ...] = ("sample", "gather", "fetch", "train", "update")


@dataclass
class BatchRecord:
    """One batch's times and staleness. Times are seconds since the start of the pass.

    Attributes:
        index: The batch's number within the pass, from 0.
        begin: When each stage began; a stage that has not begun is missing.
        finish: When each stage was done; a stage that is not done is missing.
        rows_at: When the batch's new memory rows existed, a moment during training; None until then.
        bound: How many commits the batch was allowed to miss, ``k_i``.
        fetched: The version that the fetch saw: commits ``0..fetched - 1``.
        staleness: How many commits the batch missed when it was trained, ``s_i``: ``index - fetched``, or 0 where the
            missing commits were forwarded.
        busy: How long each stage's thread computed or waited for a core, rather than for anything else; measured while
            the pipeline tries whether stages are to run in threads.
    """

    index: int
    begin: dict[StageName, float] = field(default_factory=dict)
    finish: dict[StageName, float] = field(default_factory=dict)
    rows_at: float | None = None
    bound: int = 0
    fetched: int = 0
    staleness: int = 0
    busy: dict[StageName, float] = field(default_factory=dict)

    def duration(self, stage: StageName) -> float:
        """Returns how long ``stage``, which is finished, worked, in seconds."""
        return self.finish[stage] - self.begin[stage]

    def work_ms(self) -> dict[str, float]:
        """Returns how long each finished stage worked, in milliseconds."""
        return {stage: round(1000 * self.duration(stage), 3) for stage in STAGES if stage in self.finish}

    def wait_ms(self) -> dict[str, float]:
        """Returns how long the batch waited before each stage but the first, in milliseconds.

        The wait for the update begins when the batch's new rows exist.
        """
        ready = {after: self.finish[stage] for stage, after in pairwise(STAGES) if stage in self.finish}
        if self.rows_at is not None:
            ready["update"] = self.rows_at
        return {
            stage: round(1000 * (self.begin[stage] - moment), 3)
            for stage, moment in ready.items()
            if stage in self.begin
        }
