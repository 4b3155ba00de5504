"""The group: fast help, lazy commands, errors in one line."""

import errno
import subprocess
import sys
import time

import click
import pytest

import gankit
from gankit import cli
from gankit.errors import BackendError, ParityError


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--help"], {"torch", "numpy", "rich"}),
        (["--version"], {"torch", "numpy", "rich"}),
        (["upscale", "--help"], {"torch"}),
        (["models"], {"torch"}),
    ],
)
def test_help_and_lists_load_no_torch(arguments, absent):
    code = f"import sys, gankit; from gankit.cli import main; main({arguments}); print({absent} & set(sys.modules))"
    assert python(code).endswith("set()\n")


def test_help_is_fast():
    times = []
    for _ in range(3):
        began = time.perf_counter()
        out = python("from gankit.cli import main; main(['--help'])")
        times.append(time.perf_counter() - began)
    assert min(times) < 0.5
    assert "upscale" in out


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert gankit.__version__ in capsys.readouterr().out


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_has_help(name, capsys):
    assert cli.main([name, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "reported"),
    [
        (["upscael"], "command 'upscael': did you mean 'upscale'?"),
        (["trian", "srgan"], "command 'trian': did you mean 'train'?"),
        (["train", "srgna"], "recipe 'srgna': did you mean 'srgan'?"),
        (["train", "zzz", "--output", "x"], "recipe 'zzz': choose from gan, cgan, dcgan, wgan"),
        (["evaluate", "genrate", "--model", "dcgan"], "command 'genrate': did you mean 'generate'?"),
        (["evaluate", "photos/"], "command 'photos/': choose from upscale, translate, generate"),
    ],
)
def test_unknown_command(words, reported, capsys):
    assert cli.main(words) == 2
    assert f"No such {reported}" in capsys.readouterr().err


def raising(monkeypatch, error):
    @click.command()
    def broken():
        raise error

    monkeypatch.setattr(cli.gankit, "get_command", lambda ctx, name: broken)


@pytest.mark.parametrize(("error", "status"), [(BackendError("no\nengine"), 2), (ParityError("far"), 1)])
def test_user_errors_are_one_line(monkeypatch, capsys, error, status):
    raising(monkeypatch, error)
    assert cli.main(["x"]) == status
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_what_is_wrong_with_a_file_is_one_line(monkeypatch, capsys):
    raising(monkeypatch, PermissionError(errno.EACCES, "Permission denied", "locked/x"))
    assert cli.main(["x"]) == 2
    assert capsys.readouterr().err == "error: locked/x: Permission denied\n"
    for fault in (FileNotFoundError(errno.ENOENT, "No such file", "ours"), PermissionError("no file named")):
        raising(monkeypatch, fault)
        with pytest.raises(OSError):
            cli.main(["x"])


def test_interrupt_is_130(monkeypatch, capsys):
    raising(monkeypatch, KeyboardInterrupt())
    assert cli.main(["x"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch):
    raising(monkeypatch, ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError):
        cli.main(["x"])


def test_models(capsys):
    assert cli.main(["models"]) == 0
    out = capsys.readouterr().out
    assert "srgan" in out
    assert "srresnet" in out


def test_one_model(capsys):
    assert cli.main(["models", "srgan"]) == 0
    out = capsys.readouterr().out
    assert "1,547,350" in out  # parameters: 1.5 million, as in the paper
    assert "40 input pixels" in out
    assert "1609.04802" in out


def test_one_unknown_model(capsys):
    assert cli.main(["models", "srgam"]) == 2
    assert "did you mean 'srgan'" in capsys.readouterr().err
