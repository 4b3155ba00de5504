"""``gankit train`` and the accidents of long runs: Ctrl-C, a full disk."""

import os
import signal
from pathlib import Path

import pytest
import torch
from gankit_export.files import append_bytes
from training_making import NET, TINY

import gankit
from gankit import cli
from gankit.checkpoints import native
from gankit.training.systems.srgan import ContentSystem

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


@pytest.fixture
def train(photos, tmp_path, capsys):
    """Run the command; returns its status and what it wrote to stderr."""

    def run(*arguments):
        command = ["train", "srresnet", "--data", photos, "--validation", photos, "--output", tmp_path / "out"]
        status = cli.main([str(part) for part in [*command, *TINY, *NET, *arguments]])
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return status, error.strip()

    return run


def interrupt(monkeypatch, step, times=1):
    """Ctrl-C in the middle of a step."""
    real = ContentSystem.step

    def interrupted(self, batch, index):
        if index + 1 == step:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
        return real(self, batch, index)

    monkeypatch.setattr(ContentSystem, "step", interrupted)


def test_ctrl_c_says_how_to_go_on(train, monkeypatch, tmp_path):
    with monkeypatch.context() as patched:
        interrupt(patched, 2)
        status, error = train()
    assert status == 130
    assert error.splitlines()[-1] == "error: interrupted; --resume continues from the last checkpoint"
    assert torch.load(tmp_path / "out/last.pt", weights_only=True)["step"] == 2
    assert train("--resume")[0] == 0
    assert torch.load(tmp_path / "out/last.pt", weights_only=True)["step"] == 4


def test_ctrl_c_twice_before_a_checkpoint(train, monkeypatch, tmp_path):
    interrupt(monkeypatch, 1, times=2)
    status, error = train()
    assert status == 130
    assert error.splitlines()[-1] == "error: interrupted; no checkpoint was written yet"
    assert not (tmp_path / "out/last.pt").exists()


@needs_full
def test_a_disk_that_is_full_for_the_log(train, monkeypatch, tmp_path):
    monkeypatch.setattr("gankit.training.log.append_bytes", lambda path, data: append_bytes(FULL, data))
    status, error = train()
    assert status == 2
    assert error.startswith("error: ")
    assert error.endswith("log.csv: cannot be written: No space left on device")


@needs_full
def test_a_disk_that_is_full_for_the_best_weights(train, monkeypatch, tmp_path):
    """The checkpoint before them is whole, and the run goes on from there when there is room."""

    def full(self, data):
        with Path(FULL).open("wb") as file:
            return file.write(data)

    with monkeypatch.context() as patched:
        patched.setattr(native.Path, "write_bytes", full)
        status, error = train("--validate-every", "2")
    assert status == 2
    assert error.endswith("best.safetensors: cannot be written: No space left on device")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"last.pt", "log.csv"}
    assert torch.load(tmp_path / "out/last.pt", weights_only=True)["step"] == 2
    assert train("--validate-every", "2", "--resume")[0] == 0
    assert gankit.load(tmp_path / "out/best.safetensors").scale == 4


def test_options_of_a_resumed_run(train, photos):
    assert train("--stop-after", "0")[0] == 0
    for option, value, words in (
        ("--patch", "6", "its patch is 8, not 6"),
        ("--norm", "batch", "its norm is frozen, not batch"),
        ("--blocks", "2", "its blocks is 1, not 2"),
        ("--seed", "3", "its seed is 0, not 3"),
        ("--content", "mse", "its content is l1, not mse"),
    ):
        status, error = train("--resume", option, value)
        assert (status, words in error) == (2, True), error
    (photos / "more.png").write_bytes((photos / "0.png").read_bytes())
    status, error = train("--resume")
    assert status == 2
    assert "its data is 2 images (" in error
    (photos / "more.png").unlink()
    assert train("--resume", "--lr", "1e-5", "--workers", "1", "--validate-every", "3")[0] == 0
