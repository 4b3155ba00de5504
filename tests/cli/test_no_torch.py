"""Commands that need no torch do not import it, because that takes longer than all they do."""

import subprocess
import sys

import pytest

from gankit.backends.cuda.driver import driver_installed
from gankit.cli import COMMANDS

NO_DRIVER = pytest.mark.skipif(driver_installed(), reason="torch describes the GPU of this machine")

CHECKED = """
import sys
from gankit.cli import main
for arguments in {commands!r}:
    try:
        main(arguments)
    except SystemExit:
        pass
    assert "torch" not in sys.modules, arguments
"""


def run(commands, **options):
    return subprocess.run(
        [sys.executable, "-c", CHECKED.format(commands=commands)], capture_output=True, text=True, **options
    )


def test_the_help_of_every_command():
    nested = [["evaluate", "upscale"], ["evaluate", "generate"], ["train", "gan"], ["train", "srresnet"]]
    commands = [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS), *([*n, "--help"] for n in nested)]
    done = run(commands)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage:") == len(commands) - 1


@pytest.mark.parametrize(
    "command", [["models"], ["cache", "list"], ["cache", "verify"], pytest.param(["doctor"], marks=NO_DRIVER)]
)
def test_commands_that_only_look(command, tmp_path, monkeypatch):
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path))
    done = run([command])
    assert done.returncode == 0, done.stderr
    assert done.stdout
