"""Fixtures of the tests of training."""

import random
import time

import pytest

from pyg_mspipe.memory import RowState
from pyg_mspipe.pipeline import Batches


@pytest.fixture
def late_stages(monkeypatch):
    """Stages take random times before their work."""
    delays = random.Random(3)
    for owner, name in ((Batches, "draw"), (Batches, "gather"), (RowState, "await_fetch"), (RowState, "await_apply")):
        own = getattr(owner, name)

        def late(*args, own=own, **options):
            time.sleep(delays.random() * (0.02 if delays.random() < 0.1 else 0.003))
            return own(*args, **options)

        monkeypatch.setattr(owner, name, late)
