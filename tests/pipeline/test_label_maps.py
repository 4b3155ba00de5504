"""Models whose input is a mask or a label map: values are indices, in files, arrays and Pillow images alike."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import gankit
from gankit import cli
from gankit.checkpoints import open_model, save
from gankit.checkpoints.native import input_header
from gankit.models import build
from gankit.models.facts import Facts

SHAPE = np.array([[0, 0, 1], [0, 1, 1]], np.uint8)


class Gray(nn.Module):
    """The identity of one channel, so that the result is what the network saw."""

    def forward(self, x):
        return x * 1.0


def translator(kind, labels=(), **more):
    facts = Facts(task="translate", value_range=(0, 1), channels=1, halo=0, input_kind=kind, labels=labels)
    return gankit.Translator(Gray(), facts=facts, backend="eager", precision="fp32", device="cpu", **more)


def seen(result):
    return np.asarray(result).reshape(SHAPE.shape)


def palette(values, folder):
    """A file with a palette of bright colours, whose indices are the values."""
    image = Image.fromarray(values)
    image.putpalette([10, 20, 30, 200, 10, 250, 90, 90, 90])
    path = folder / "palette.png"
    image.save(path)
    return path


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (1, 2), (3, 200)])
def test_two_values_of_a_mask_become_black_and_white(tmp_path, low, high):
    values = np.where(SHAPE, np.uint8(high), np.uint8(low))
    wanted = SHAPE * 255
    Image.fromarray(values).save(tmp_path / "m.png")
    Image.fromarray(values.astype(np.uint16) * 200).save(tmp_path / "deep.png")
    with translator("mask") as run:
        assert np.array_equal(seen(run(values)), wanted)
        assert np.array_equal(seen(run(values.astype(np.int64))), wanted)
        assert np.array_equal(seen(run(values.repeat(3).reshape(2, 3, 3))[..., 0]), wanted)
        assert np.array_equal(seen(run(Image.fromarray(values))), wanted)
        assert np.array_equal(seen(run(tmp_path / "m.png")), wanted)
        assert np.array_equal(seen(run(tmp_path / "deep.png")), wanted)
        assert np.array_equal(seen(run(torch.from_numpy(values)[None])), wanted)
        report = run.run(tmp_path, tmp_path / "out")
    assert report.totals.done == 2
    with Image.open(tmp_path / "out" / "m.png") as image:
        assert np.array_equal(np.asarray(image), wanted)


def test_booleans_are_masks():
    with translator("mask") as run:
        assert np.array_equal(seen(run(SHAPE > 0)), SHAPE * 255)
        assert np.array_equal(seen(run(torch.from_numpy(SHAPE > 0)[None])), SHAPE * 255)
        result = run(np.stack([SHAPE > 0, SHAPE < 1])[..., None])
    assert result.dtype == np.uint8
    assert np.array_equal(result[..., 0], [SHAPE * 255, 255 - SHAPE * 255])


def test_labels_are_the_numbers_of_the_file(tmp_path):
    with translator("labels") as run:
        assert np.array_equal(seen(run(SHAPE + 1)), SHAPE + 1)
        assert np.array_equal(seen(run(palette(SHAPE, tmp_path))), SHAPE)
        assert np.array_equal(seen(run(Image.open(tmp_path / "palette.png"))), SHAPE)
        Image.fromarray(SHAPE.astype(np.uint16) * 7).save(tmp_path / "deep.png")
        assert np.array_equal(seen(run(tmp_path / "deep.png")), SHAPE * 7)
        Image.fromarray(SHAPE * 255).convert("1").save(tmp_path / "bit.png")
        assert np.array_equal(seen(run(tmp_path / "bit.png")), SHAPE)


def test_brightness_stays_brightness(tmp_path):
    """The same palette, for a model that takes images, is a gray of its colours."""
    with translator("image") as run:
        values = seen(run(palette(SHAPE, tmp_path)))
        assert np.array_equal(seen(run(SHAPE)), SHAPE)
    assert not np.array_equal(values, SHAPE)


@pytest.mark.parametrize(
    ("kind", "labels", "value", "words"),
    [
        ("mask", (), np.array([[0, 7, 9]], np.uint8), "a mask has two values, and it has 0, 7, 9"),
        ("labels", (), np.array([[0, 256]], np.uint16), "has the label 256"),
        ("labels", (), np.array([[0, -1]]), "has the label -1"),
        ("labels", (), np.zeros((2, 2)), "whole numbers, not float64"),
        ("labels", (0, 128, 255), SHAPE, "has the label 1, but 'custom' was trained with the labels 0, 128, 255"),
        ("mask", (), np.arange(12, dtype=np.uint8).reshape(2, 2, 3), "in colour"),
        ("mask", (), np.zeros((2, 2, 4), np.uint8), "1 channel, or 3 equal ones, not 4"),
        ("mask", (), Image.new("RGBA", (2, 2)), "cannot be transparent"),
        ("mask", (), Image.new("F", (2, 2)), "mode F is no mask"),
    ],
)
def test_what_is_no_mask_or_label_map_is_refused(kind, labels, value, words):
    with translator(kind, labels) as run, pytest.raises(gankit.UsageError, match=words):
        run(value)


def test_a_file_that_is_no_mask_fails_and_the_others_go_on(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(SHAPE).save(folder / "good.png")
    Image.fromarray(SHAPE + np.array([[0, 60, 90]], np.uint8)).save(folder / "soft.png")
    with translator("mask") as run:
        report = run.run(folder, tmp_path / "out")
        assert [item.status for item in report.images] == ["done", "failed"]
        assert report.images[1].error.startswith(f"{folder / 'soft.png'}: is no mask")
        with pytest.raises(gankit.ImageError, match=r"soft\.png: is no mask"):
            run(folder / "soft.png")
        report = run.run(folder, tmp_path / "out", mask_from=61)
        assert [item.status for item in report.images] == ["failed", "done"]
        assert "no mask here has a value of 61 or more (the highest is 1)" in report.images[0].error
        assert run.run(folder / "good.png", tmp_path / "out", mask_from=1).images[0].again == "option"
    with Image.open(tmp_path / "out" / "soft.png") as image:
        assert np.array_equal(np.asarray(image) > 0, [[False, False, True], [False, True, True]])
    with translator("labels") as run, pytest.raises(gankit.UsageError, match="mask_from: 'custom' takes no masks"):
        run.run(folder, tmp_path / "other", mask_from=3)
    assert not (tmp_path / "other").exists()


@pytest.fixture
def weights(tmp_path):
    """A small pix2pix whose file says that it takes labels."""
    torch.manual_seed(2)
    options = {"channels": 4, "downs": 2, "in_channels": 1, "out_channels": 3}
    net = build("pix2pix", options).eval()
    path = tmp_path / "w.safetensors"
    facts = Facts(task="translate", value_range=(-1, 1), input_kind="labels", labels=(0, 5))
    save(path, net.state_dict(), "pix2pix", options, metadata=input_header(facts))
    return path


def test_the_file_of_the_weights_says_it(weights, tmp_path, capsys):
    facts = open_model(weights).facts
    assert (facts.input_kind, facts.labels) == ("labels", (0, 5))
    Image.fromarray(SHAPE).save(tmp_path / "m.png")
    command = ["translate", str(tmp_path / "m.png"), "--model", str(weights), "--backend", "eager", "--device", "cpu"]
    assert cli.main([*command, "--output", str(tmp_path / "out")]) == 1
    assert "m.png: has the label 1, but 'pix2pix' was trained with the labels 0, 5" in capsys.readouterr().err
    assert cli.main([*command, "--output", str(tmp_path / "out"), "--source-kind", "mask"]) == 0
    assert cli.main([*command, "--output", str(tmp_path / "out"), "--source-kind", "image", "-q"]) == 0
    entries = [json.loads(line) for line in (tmp_path / "out" / ".gankit.jsonl").read_text().splitlines()]
    assert entries[-1]["options"]["facts"] == {"input_kind": "image"}
    assert cli.main(["convert", str(weights), "--output", str(tmp_path / "again.safetensors")]) == 0
    assert open_model(tmp_path / "again.safetensors").facts.labels == (0, 5)


@pytest.mark.parametrize(
    "header",
    [
        {"input_kind": "smell"},
        {"input_kind": "labels", "labels": "[1, 999]"},
        {"input_kind": "labels", "labels": "7"},
        {"input_kind": "mask", "labels": "[0]"},
    ],
)
def test_a_damaged_header_is_one_line(tmp_path, header):
    options = {"channels": 4, "downs": 2, "in_channels": 1, "out_channels": 3}
    save(tmp_path / "w.safetensors", build("pix2pix", options).state_dict(), "pix2pix", options, metadata=header)
    with pytest.raises(gankit.CheckpointError, match=r"w\.safetensors: damaged header"):
        open_model(tmp_path / "w.safetensors")


def test_the_shipped_model_takes_the_labels_it_was_trained_with():
    facts = open_model("nuclei-tissue").facts
    assert (facts.input_kind, facts.labels) == ("labels", (0, 128, 255))
    assert open_model("nuclei-masks").facts.input_kind == "image"
    with gankit.Translator("nuclei-tissue", backend="eager", device="cpu") as run:
        with pytest.raises(gankit.UsageError, match="has the label 1, but 'pix2pix' was trained with"):
            run(np.eye(64, dtype=np.uint8))
        assert run(np.eye(64, dtype=np.uint8) * 255).shape == (64, 64, 3)


def test_only_a_translator_takes_labels():
    for wrong in ({"task": "upscale", "input_kind": "mask"}, {"task": "translate", "labels": (1,)},
                  {"task": "translate", "input_kind": "labels", "labels": (1.5,)}):  # fmt: skip
        with pytest.raises(gankit.FactsError):
            Facts(value_range=(0, 1), **wrong)
