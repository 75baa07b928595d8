"""What the tests share."""

import os
from pathlib import Path

import pytest

# PyTorch asks for the names of the hosts that it connects to; where no name server answers, that takes 5 s by default.
os.environ.setdefault("RES_OPTIONS", "timeout:1 attempts:2")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--budget", type=float, default=0.0, help="Seconds in which tests/fuzz draws inputs of its own.")
    parser.addoption("--thorough", action="store_true", help="Damages, kills and draws as often as before a release.")


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
