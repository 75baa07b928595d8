"""A CUDA device for the tests of this folder: a real one or its stand-in."""

import pytest
import torch
from device_runs import RUNS
from pairwise import many, pairwise
from shadow_process import ShadowProcess

from benchmarks.harness.stand_in import why_not

REAL = torch.cuda.is_available()


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name == "cuda":
            item.add_marker(pytest.mark.cuda)


def pytest_generate_tests(metafunc):
    """Gives arguments named in a module's ``MATRICES`` all pairs of values, or with --thorough many combinations."""
    for name, (values, exists) in getattr(metafunc.module, "MATRICES", {}).items():
        if name in metafunc.fixturenames:
            cases = (many if metafunc.config.getoption("--thorough") else pairwise)(values, exists)
            metafunc.parametrize(name, cases, ids=["-".join(map(str, case.values())) for case in cases])


class RealDevice:
    """Answers as the process of the stand-in does, for a device that says nothing of hazards."""

    def __call__(self, request):
        # Both without dropout, as a device draws other numbers than a CPU.
        same = {"dropout": 0.0}
        takes = request["run"] in ("train", "engine", "loaders")
        settings = request["settings"] | (same if takes else {})
        reference = request["reference"]
        expected = None
        if reference is not None:
            expected = RUNS[request["run"]]("cpu", **reference | (same if takes else {}))
        return {"found": RUNS[request["run"]]("cuda", **settings), "expected": expected, "hazards": []}


@pytest.fixture(scope="session")
def _device():
    if REAL:
        yield RealDevice()
        return
    reason = why_not()
    if reason:
        pytest.skip(reason)
    processes = [ShadowProcess()]

    def ask(request):
        if not processes[-1].alive:
            processes.append(ShadowProcess())
        return processes[-1](request)

    yield ask
    processes[-1].end()


@pytest.fixture
def on_cuda(_device):
    """Runs one of ``device_runs`` on the device, says what is wrong with what came out, and returns it.

    Losses are to be those of ``reference`` on a CPU, to the bit or up to a tolerance; scores and memory, which
    evaluation computes by other kernels, are to be close.
    """

    def check(run, settings, *, lag=0, reference=None, tolerance=0.0):
        answer = _device({"run": run, "settings": settings, "lag": lag, "reference": reference})
        assert not answer["hazards"], "\n".join(answer["hazards"][:5])
        found, expected = answer["found"], answer["expected"]
        assert not found.get("too_stale"), "staleness above its bound"
        assert not found.get("unfinished"), "batches reported before all stages were done"
        assert torch.tensor(found["losses"], dtype=torch.float64).isfinite().all()
        if expected is not None:
            assert len(found["losses"]) == len(expected["losses"]) > 0
            rounding = max(tolerance, 5e-3 if REAL else 1e-5)
            if REAL or tolerance:
                assert_close(found["losses"], expected["losses"], rounding)
            else:
                assert found["losses"] == expected["losses"]
            for name in () if REAL else ("metrics", "state"):
                if name in expected:
                    assert_close(found[name], expected[name], rounding, name)
        return found

    return check


def assert_close(one, other, tolerance, place=""):
    """Numbers in lists and dictionaries, of any depth, are close; whole numbers, such as times, are equal."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for name in one:
            assert_close(one[name], other[name], tolerance, f"{place}.{name}")
    elif isinstance(one, list) and one and isinstance(one[0], dict):
        assert len(one) == len(other), place
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_close(*pair, tolerance, f"{place}[{index}]")
    else:
        x, y = torch.tensor(one), torch.tensor(other)
        exact = not x.is_floating_point()
        torch.testing.assert_close(
            x,
            y,
            rtol=0 if exact else tolerance,
            atol=0 if exact else tolerance,
            equal_nan=True,
            msg=lambda m: f"{place}: {m}",
        )
