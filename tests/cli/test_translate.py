"""``gankit translate``: bad input of every kind is one line, and leaves the output as it was."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from gankit import cli
from tests.checkpoints.published_translation import ResNet, UNet, shake
from tests.opening import opened


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Weights files, and one small image."""
    folder = tmp_path_factory.mktemp("files")
    nets = {"a": shake(ResNet(blocks=1)), "b": shake(ResNet(blocks=1), 1), "u": shake(UNet(5))}
    torch.save(nets["a"].state_dict(), folder / "latest_net_G_A.pth")
    torch.save({"netG_A": nets["a"].state_dict(), "netG_B": nets["b"].state_dict()}, folder / "pair.pth")
    torch.save({"netG_B": nets["b"].state_dict()}, folder / "b.pth")
    torch.save(nets["u"].state_dict(), folder / "u.pth")
    torch.save(shake(ResNet(blocks=1, outs=2)).state_dict(), folder / "two.pth")
    torch.save(shake(UNet(5, ins=6)).state_dict(), folder / "six.pth")
    for name, key in (("resnet", "model.10.conv_block.1.weight"), ("unet", "model.model.3.bias")):
        state = nets["a" if name == "resnet" else "u"].state_dict()
        del state[key]
        torch.save(state, folder / f"torn_{name}.pth")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)).save(folder / "p.png")
    return folder


def run(files, model, out, *extra, source=None):
    command = ["translate", str(source or files / "p.png"), "--model", str(files / model), "--backend", "eager"]
    return cli.main([*command, "--output", str(out), *extra])


def one_line(capsys):
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("model", "extra", "words"),
    [
        ("pair.pth", [], "pair.pth: holds the generators of both directions: give --direction AtoB or BtoA"),
        ("b.pth", ["--direction", "AtoB"], "b.pth: holds the direction BtoA only: omit --direction"),
        ("latest_net_G_A.pth", ["--direction", "BtoA"], "no latest_net_G_B.pth beside it"),
        ("u.pth", ["--direction", "AtoB"], "neither its keys nor its name show the direction: omit --direction"),
        ("torn_resnet.pth", [], "does not fit 'cyclegan': 'model.10.conv_block.1.weight' missing"),
        ("torn_unet.pth", [], "does not fit 'pix2pix': 'model.model.3.bias' missing"),
        ("latest_net_G_A.pth", ["--norm", "eval"], "no BatchNorm with a choice of statistics: omit --norm"),
        ("latest_net_G_A.pth", ["--tile", "64"], "needs the whole image and cannot be tiled; omit --tile"),
        ("none.pth", [], "none.pth: no such file"),
        ("p.png", [], "p.png: not a weights file"),
    ],
)
def test_one_line_before_any_work(files, tmp_path, capsys, model, extra, words):
    assert run(files, model, tmp_path / "out", *extra) == 2
    assert words in one_line(capsys)
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize(
    ("model", "words"), [("two.pth", "makes 2 channels of 3"), ("six.pth", "makes 3 channels of 6")]
)
def test_channels_that_no_image_has(files, tmp_path, capsys, model, words):
    assert run(files, model, tmp_path / "out") == 2
    assert words in one_line(capsys)
    assert not list(tmp_path.rglob("*.png"))


def test_wrong_words_are_refused_by_the_parser(files, tmp_path, capsys):
    for option in ("--direction", "--norm"):
        assert run(files, "u.pth", tmp_path / "out", option, "sideways") == 2
        assert "'sideways' is not one of" in capsys.readouterr().err
    assert cli.main(["translate", str(files / "p.png"), "--output", str(tmp_path / "out")]) == 2
    assert "--model" in capsys.readouterr().err


@pytest.mark.parametrize("size", [(1, 1), (2, 31), (7, 40)])
def test_a_image_below_the_minimum_keeps_its_size(files, tmp_path, size):
    """The U-Net works on 32 pixels at least; the image is mirrored up to them and cut back."""
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(tmp_path / "s.png")
    assert run(files, "u.pth", tmp_path / "out", source=tmp_path / "s.png") == 0
    assert opened(tmp_path / "out" / "s.png").size == size[::-1]


def test_nothing_to_read(files, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert run(files, "u.pth", tmp_path / "out", source=tmp_path / "empty") == 2
    assert "no images found" in one_line(capsys)
    assert run(files, "u.pth", tmp_path / "out", source=tmp_path / "gone") == 2
    assert "no such file or folder" in one_line(capsys)
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written(files, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert run(files, "u.pth", tmp_path / "file") == 2
    assert "file: the output folder cannot be written: a file is in its place" in one_line(capsys)
    assert run(files, "u.pth", tmp_path / "file" / "below") == 2
    assert "the output folder cannot be written" in one_line(capsys)
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_without_permission(files, tmp_path, capsys):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert run(files, "u.pth", tmp_path / "locked") == 2
    assert "cannot be written: Permission denied" in one_line(capsys)
