"""``mspipe``, in a process that does something at a given time; what, is in the environment.

ACTS has something for each time that torchrun starts the run. It is ``{"rank": 1, "call": "begin_commit",
"position": 9, "act": "die"}``, or ``{"rank": 1, "arguments": {"this": "that"}}``, what to put instead of an argument.
"""

import json
import os
import signal
import sys

from pyg_mspipe.cli import app
from pyg_mspipe.distributed.memory_turns import MemoryTurns

ACTS = {
    "die": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stall": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "interrupt torchrun": lambda: os.kill(os.getppid(), signal.SIGINT),
    "terminate torchrun": lambda: os.kill(os.getppid(), signal.SIGTERM),
}


def act_at(call, position, act):
    """Has something done when a trainer comes to its turn at a batch."""
    method = getattr(MemoryTurns, call)

    def acting(turns, at):
        if at == position:
            ACTS[act]()
        method(turns, at)

    setattr(MemoryTurns, call, acting)


def main():
    acts = json.loads(os.environ["ACTS"])
    attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    mine = acts[attempt] if attempt < len(acts) else {}
    if str(mine.get("rank")) != os.environ["RANK"]:
        mine = {}
    if "act" in mine:
        act_at(mine["call"], mine["position"], mine["act"])
    instead = mine.get("arguments", {})
    app([instead.get(argument, argument) for argument in sys.argv[1:]], prog_name="mspipe")


if __name__ == "__main__":
    main()
