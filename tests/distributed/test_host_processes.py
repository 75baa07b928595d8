import os
import signal
import subprocess
import sys
import threading

import pytest
from processes import patience

from pyg_mspipe.distributed.host_processes import process_state, when_one_ends

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot tell")


@pytest.fixture
def sleeper():
    """Starts processes that sleep, and ends them."""
    started = []

    def start():
        started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_process_runs_or_is_stopped_or_is_gone_even_before_it_is_waited_for(sleeper):
    process = sleeper()
    assert process_state(process.pid) == "runs"
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    assert process_state(process.pid) == "stopped"
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process_state(process.pid) == "gone"
    process.wait()
    assert process_state(process.pid) == "gone"


def test_the_end_of_any_one_process_is_noticed(sleeper):
    for victim in range(2):
        processes = [sleeper(), sleeper()]
        noticed = threading.Event()
        with when_one_ends([process.pid for process in processes], noticed.set):
            assert not noticed.wait(0.1)
            processes[victim].kill()
            assert noticed.wait(patience())


def test_a_process_that_ended_before_is_noticed_at_once(sleeper):
    process = sleeper()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    for _ in range(2):  # not waited for, and waited for
        noticed = threading.Event()
        with when_one_ends([process.pid], noticed.set):
            assert noticed.wait(patience())
        process.wait()


def test_nothing_is_called_or_left_open_where_nobody_ends(sleeper):
    noticed, threads = threading.Event(), threading.active_count()
    files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with when_one_ends([sleeper().pid], noticed.set):
        assert threading.active_count() == threads + 1
    assert threading.active_count() == threads
    assert not noticed.is_set()
    assert len(os.listdir("/proc/self/fd")) == files  # noqa: PTH208
