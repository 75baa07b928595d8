import os
import subprocess
import sys

import pytest

SHOW = "import os, pyg_mspipe; print(os.environ.get('THP_MEM_ALLOC_ENABLE'))"
AS_COMMAND = f"import sys; sys.argv[0] = 'mspipe'; {SHOW}"
PLAIN = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}


@pytest.mark.parametrize(
    ("code", "environment", "shown"),
    [
        (AS_COMMAND, {}, "1"),
        (AS_COMMAND, {"THP_MEM_ALLOC_ENABLE": "0"}, "0"),
        (SHOW, {}, "None"),
    ],
    ids=["command", "set before", "library"],
)
def test_a_command_asks_for_huge_pages_and_a_library_leaves_the_environment_alone(code, environment, shown):
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=PLAIN | environment)
    assert done.stdout.strip() == shown
