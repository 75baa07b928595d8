"""The processor time of training, which a busy machine does not change."""

from __future__ import annotations

import time

from pyg_mspipe.training import Event, PartBegun


class TrainingClock:
    """Listens to a trainer, and takes the processor time of each pass over the training events, without validation.

    Attributes:
        seconds: Of each pass.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0

    def __call__(self, event: Event) -> None:
        """Takes the time where training begins and ends."""
        if isinstance(event, PartBegun):
            if event.part == "train":
                self._began = time.process_time()
            else:
                self.seconds.append(time.process_time() - self._began)
