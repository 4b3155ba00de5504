"""``gankit convert``: the same images before and after, from other people's files too."""

import os

import pytest
import torch

from gankit import cli
from gankit.checkpoints import open_model
from gankit.checkpoints.files import read
from tests.networks import small_srgan


@pytest.fixture
def pickled(tmp_path):
    net = small_srgan()
    torch.save({"epoch": 2, "state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, tmp_path / "n.pth")
    return tmp_path / "n.pth", net


def test_same_images_and_exact_weights(pickled, tmp_path, capsys):
    path, net = pickled
    assert cli.main(["convert", str(path)]) == 0
    target = tmp_path / "n.safetensors"
    assert f"{target}: srgan (scale 4, channels 16, blocks 2" in capsys.readouterr().out
    x = torch.rand(1, 3, 9, 11)
    assert torch.equal(open_model(target).generator(x), open_model(path).generator(x))
    torch.testing.assert_close(open_model(target).generator(x), net(x))


def test_half_the_size(pickled, tmp_path):
    path, net = pickled
    assert cli.main(["convert", str(path), "--dtype", "fp16", "--output", str(tmp_path / "small.safetensors")]) == 0
    assert (tmp_path / "small.safetensors").stat().st_size < 0.6 * path.stat().st_size
    x = torch.rand(1, 3, 9, 11)
    torch.testing.assert_close(open_model(tmp_path / "small.safetensors").generator(x), net(x), atol=5e-3, rtol=0)


def test_nothing_is_replaced_unasked(pickled, tmp_path, capsys):
    path, _ = pickled
    (tmp_path / "n.safetensors").write_bytes(b"mine")
    assert cli.main(["convert", str(path)]) == 2
    assert "n.safetensors: already exists; use --overwrite" in capsys.readouterr().err
    assert (tmp_path / "n.safetensors").read_bytes() == b"mine"
    assert cli.main(["convert", str(path), "--overwrite"]) == 0


def test_no_weights(tmp_path, capsys):
    (tmp_path / "x.pth").write_bytes(b"nothing of the kind")
    assert cli.main(["convert", str(tmp_path / "x.pth")]) == 2
    assert "x.pth: not a weights file" in capsys.readouterr().err
    assert cli.main(["convert", str(tmp_path / "missing.pth")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_a_name_that_is_no_text(pickled, tmp_path, capsys):
    file = tmp_path / os.fsdecode(b"a\xff.pth")
    file.write_bytes(pickled[0].read_bytes())
    assert cli.main(["convert", str(file), "-o", str(tmp_path / "b.safetensors")]) == 0
    assert read(tmp_path / "b.safetensors").metadata["from"] == "a\\udcff.pth"
    assert cli.main(["export", "--model", str(file), "--output", str(tmp_path)]) == 2
    assert "ONNX needs a file name that is valid UTF-8; use another --output" in capsys.readouterr().err
