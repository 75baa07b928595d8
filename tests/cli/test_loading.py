"""What happens before PyTorch is there.

Ctrl-C comes at a moment that no timing moves: as a certain module is looked for.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import patience

from pyg_mspipe._loading import SHORT_SPIN

HOOK = """
import os
import signal
import sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
"""

MSPIPE = str(Path(sys.executable).with_name("mspipe"))


def interrupted(folder, module, *command):
    folder.joinpath("sitecustomize.py").write_text(HOOK.format(name=module))
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=patience(), check=False)


@pytest.mark.parametrize(
    ("command", "module", "lines"),
    [
        ([MSPIPE], "pyg_mspipe.cli.app", 0),
        ([sys.executable, "-m", "pyg_mspipe"], "torch", 0),
        ([MSPIPE], "torch_geometric", 1),
    ],
)
def test_a_command_ends_in_one_line(tmp_path, module, command, lines):
    done = interrupted(tmp_path, module, *command, "train", "synthetic", "--out", str(tmp_path / "run"))
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (130, lines, "interrupted\n")
    assert not tmp_path.joinpath("run").exists()


def test_a_program_that_imports_the_package_gets_the_interrupt(tmp_path):
    script = "try:\n    from pyg_mspipe import TemporalCSR\nexcept KeyboardInterrupt:\n    print('mine')"
    done = interrupted(tmp_path, "torch", sys.executable, "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "mine\n", "")


SHOW = (
    "import os, pyg_mspipe.cli; print(*(os.environ.get(name) for name in ('THP_MEM_ALLOC_ENABLE', 'GOMP_SPINCOUNT')))"
)
AS_COMMAND = f"import sys; sys.argv[0] = 'mspipe'; {SHOW}"
SPIN = SHORT_SPIN["GOMP_SPINCOUNT"]


@pytest.mark.parametrize(
    ("code", "environment", "shown"),
    [
        (AS_COMMAND, {}, f"1 {SPIN}"),
        (AS_COMMAND, {"THP_MEM_ALLOC_ENABLE": "0"}, f"0 {SPIN}"),
        (AS_COMMAND, {"GOMP_SPINCOUNT": "7"}, "1 7"),
        (AS_COMMAND, {"OMP_WAIT_POLICY": "active"}, "1 None"),
        (AS_COMMAND, {"KMP_BLOCKTIME": "200"}, "1 None"),
        (SHOW, {}, "None None"),
    ],
)
def test_a_command_sets_up_pages_and_waiting_and_a_library_leaves_the_environment_alone(code, environment, shown):
    set_here = {"THP_MEM_ALLOC_ENABLE", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"}
    plain = {name: value for name, value in os.environ.items() if name not in set_here}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=plain | environment)
    assert done.stdout.strip() == shown
