"""Wrong, broken and hostile files: one line that names the file, and nothing is run."""

import errno
import json
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from gankit.checkpoints import load, open_model, save, shipped
from gankit.errors import CheckpointError, UsageError
from tests.checkpoints.conftest import OPTIONS


def refused(path, text):
    with pytest.raises(CheckpointError, match=text) as caught:
        open_model(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


class Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("how", ["plain", "zip", "legacy"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_pickle_that_runs_code_is_not_run(tmp_path, how, suffix):
    target, path = tmp_path / "owned", tmp_path / f"evil{suffix}"
    content = {"state_dict": Malicious(target)}
    if how == "plain":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    refused(path, r"(run code.*state_dict|truncated or damaged)")
    assert not target.exists()
    pickle.loads(pickle.dumps(content))  # it would have
    assert target.exists()


def test_code_is_named_in_the_refusal(tmp_path):
    torch.save({"state_dict": Malicious(tmp_path / "owned")}, tmp_path / "evil.pth")
    refused(tmp_path / "evil.pth", r"refused, because loading it would run code \(posix\.mkdir\)")


def test_pickled_module(tmp_path, generator):
    torch.save({"generator": generator}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", r"pickled object .*SRResNet.*torch\.save\(module\.state_dict\(\)")
    torch.save(nn.Sequential(nn.Conv2d(3, 3, 3)), tmp_path / "b.pth")
    refused(tmp_path / "b.pth", "pickled object")


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_torchscript(tmp_path):
    torch.jit.script(nn.Conv2d(3, 3, 3)).save(tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "TorchScript")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".ckpt"])
def test_empty_and_text(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"")
    refused(path, "empty file")
    path.write_text("<!DOCTYPE html><title>404</title>")
    refused(path, "not a weights file|damaged safetensors")


@pytest.mark.parametrize("keep", [1, 7, 9, 300, 5000, -1])
@pytest.mark.parametrize("how", ["safetensors", "zip", "legacy"])
def test_truncated(tmp_path, generator, how, keep):
    path = tmp_path / ("a.safetensors" if how == "safetensors" else "a.pth")
    if how == "safetensors":
        save(path, generator.state_dict(), "srgan", OPTIONS)
    else:
        torch.save(generator.state_dict(), path, _use_new_zipfile_serialization=how == "zip")
    path.write_bytes(path.read_bytes()[:keep])
    refused(path, "truncated or damaged|not a weights file")


def test_missing_unexpected_and_misshapen(tmp_path, generator):
    path = tmp_path / "a.pth"
    state = generator.state_dict()
    torch.save({name: value for name, value in state.items() if "bn2.bias" not in name}, path)
    refused(path, r"'body\.0\.bn2\.bias' and 1 more missing")
    torch.save({**state, "body.extra": torch.zeros(1)}, path)
    refused(path, r"'body\.extra' unexpected")
    torch.save({**state, "tail.weight": torch.zeros(3, 8, 7, 7)}, path)
    refused(path, r"'tail\.weight' is \[3, 8, 7, 7\], should be \[3, 8, 9, 9\]")
    torch.save({**state, "tail.bias": torch.zeros(3, dtype=torch.int32)}, path)
    refused(path, r"torch\.int32")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite(tmp_path, generator, value):
    generator.tail.weight[0, 0, 0, 0] = value
    torch.save(generator.state_dict(), tmp_path / "a.pth")
    refused(tmp_path / "a.pth", r"NaN or infinite weights in 'tail\.weight'")


def test_nothing_inside(tmp_path):
    torch.save(OrderedDict(), tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "no tensors")
    torch.save([torch.zeros(3)], tmp_path / "b.pth")
    refused(tmp_path / "b.pth", "holds a list, not a state dict")


def test_paths(tmp_path):
    refused(tmp_path, "is a folder")
    refused(tmp_path / "none.pth", "no such file")
    with pytest.raises(CheckpointError, match="no such file"):
        load("folder/none")
    with pytest.raises(UsageError, match="did you mean 'srgan'"):
        load("srgn")
    with pytest.raises(UsageError, match="unknown model ''"):
        load("")
    if Path("/dev/zero").exists():
        refused(Path("/dev/zero"), "not a regular file")


def test_a_folder_without_permission(tmp_path, monkeypatch):
    """As others than root meet it. From Python 3.14 on exists() and its kin say no there; until then they raise."""

    def refuse(path, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    for name in ("exists", "is_file", "is_dir"):
        monkeypatch.setattr(Path, name, lambda path: False)
    refused(tmp_path / "locked" / "a.pth", "cannot be read: Permission denied")


def test_a_name_that_no_file_can_have(tmp_path):
    refused(tmp_path / "a\0.pth", "no such file")
    refused(tmp_path / f"{'a' * 300}.pth", "cannot be read: File name too long")


def test_shipped(tmp_path, generator, monkeypatch):
    monkeypatch.setattr(shipped, "files", lambda package: tmp_path)
    with pytest.raises(CheckpointError, match=r"srgan\.safetensors: .*not installed: reinstall"):
        load("srgan")
    digest = save(tmp_path / "srgan.safetensors", generator.state_dict(), "srgan", OPTIONS)
    with pytest.raises(CheckpointError, match="card of 'srgan' is missing: reinstall"):
        load("srgan")
    (tmp_path / "srgan.json").write_text(
        json.dumps({"sha256": digest, "model": "srgan", "options": OPTIONS, "steps": 5})
    )
    assert open_model("srgan").sha256 == digest
    assert shipped.card("srgan")["steps"] == 5
    (tmp_path / "srgan.json").write_text(json.dumps({"sha256": "0" * 64}))
    with pytest.raises(CheckpointError, match="differs from the checksum in its card: reinstall"):
        load("srgan")
    (tmp_path / "srgan.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged: reinstall"):
        load("srgan")
