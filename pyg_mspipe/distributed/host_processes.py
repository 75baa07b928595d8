"""The processes of this host: whether a process runs, and a call as soon as one ends."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

ProcessState = Literal["runs", "stopped", "gone"]


def process_state(pid: int) -> ProcessState:
    """Returns whether a process of this host runs, is stopped by a signal, or is gone.

    A process that has ended counts as gone even before its parent has waited for it.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "gone"
    except PermissionError:
        return "runs"
    try:
        # The state is the letter after the process's name. The name is in parentheses and may itself contain some.
        letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "gone" if Path("/proc/self").exists() else "runs"
    return "gone" if letter in "ZX" else "stopped" if letter in "Tt" else "runs"


@contextmanager
def when_one_ends(pids: Iterable[int], then: Callable[[], None]) -> Iterator[None]:
    """Calls ``then`` as soon as one of some processes of this host ends, as long as the ``with`` block lasts.

    A thread makes the call. It sleeps until the operating system reports the end of a process. Only Linux reports
    that; elsewhere ``then`` is never called.

    Args:
        pids: The ids of the processes to wait for, without that of this process.
        then: The call to make. It must do no harm when it is made twice.
    """
    if not hasattr(os, "pidfd_open"):
        yield
        return
    with ExitStack() as stack:
        waiting = select.poll()
        wake, awake = os.pipe()
        stack.callback(os.close, awake)
        stack.callback(os.close, wake)
        waiting.register(wake, select.POLLIN)
        try:
            for pid in pids:
                process = os.pidfd_open(pid)
                stack.callback(os.close, process)
                waiting.register(process, select.POLLIN)
        except ProcessLookupError:
            then()
        except OSError:  # some kernels and containers do not allow to wait for a process
            yield
            return

        def wait() -> None:
            if wake not in dict(waiting.poll()):
                then()

        thread = threading.Thread(target=wait, name="mspipe-host-processes", daemon=True)
        thread.start()
        stack.callback(thread.join)
        stack.callback(os.write, awake, b".")
        yield
