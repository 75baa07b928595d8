"""What the tests share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real streams beside the repository; tests that need it are skipped where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real streams at {folder}")
    return folder


@pytest.fixture(autouse=True)
def _a_core_left_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages run in threads however many cores the tests have; else it is a matter of the machine."""
    monkeypatch.setattr("pyg_mspipe.pipeline.engine.free_cores", lambda: 1)
