"""``mspipe``, in a process that is killed at a moment of its choice, as if by ``kill -9``.

DIES is ``{"rank": 0, "seconds": 0.4}``, or ``{"rank": 0, "moment": 7, "seen": "FILE"}`` for the eighth of the moments
at which no process before has died, as the file tells. A moment is before or after an fsync or a rename. A process that
lives writes into the file ``seconds`` how long it took.
"""

import json
import os
import signal
import threading
import time
from pathlib import Path

from pyg_mspipe.cli import app

LOG = Path("run/metrics.jsonl")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class Moments:
    """Counts the moments and dies at one of them.

    Args:
        left: How many to live through.
        seen: The file that tells at which there were deaths.
    """

    def __init__(self, left, seen):
        self.left = left
        self.seen = Path(seen)

    def __call__(self, name):
        """Comes to a moment; files have the process's number in their names while they are written."""
        lines = LOG.read_bytes().count(b"\n") if LOG.exists() else 0
        name = f"{name.replace(str(os.getpid()), 'PID')} at line {lines}\n"
        if name in (self.seen.read_text() if self.seen.exists() else ""):
            return
        if self.left == 0:
            with self.seen.open("a") as file:
                file.write(name)
            die()
        self.left -= 1

    def around(self, call, name_of):
        """Returns a function with a moment before and one after it."""

        def surrounded(first, *others):
            name = f"{call.__name__} {name_of(first)}"
            self(f"before {name}")
            # What a process has written outlasts it; only a machine needs the sync to the disk.
            result = None if call is fsync else call(first, *others)
            self(f"after {name}")
            return result

        return surrounded


def name_of_descriptor(descriptor):
    number = os.fstat(descriptor).st_ino
    with os.scandir("run") as entries:  # another process may rename them meanwhile
        return next((entry.name for entry in entries if entry.inode() == number), "the folder")


def die_after(seconds):
    time.sleep(seconds)
    die()


fsync = os.fsync
if __name__ == "__main__":
    mine = json.loads(os.environ["DIES"])
    if mine.get("rank") != int(os.environ.get("RANK", "0")):
        mine = {}
    if "seconds" in mine:
        threading.Thread(target=die_after, args=(mine["seconds"],), daemon=True).start()
    if "moment" in mine:
        moments = Moments(mine["moment"], mine["seen"])
        os.fsync = moments.around(fsync, name_of_descriptor)
        Path.replace = moments.around(Path.replace, lambda path: path.name)
    began = time.monotonic()
    try:
        app(prog_name="mspipe")
    finally:
        Path("seconds").write_text(str(time.monotonic() - began))
