"""Weights between a faithful and a sharp generator."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from gankit import Upscaler, cli, models
from gankit.backends.cached import cached_files
from gankit.checkpoints import open_model, save
from gankit.checkpoints.shipped import weights_path
from gankit.checkpoints.strength import at_strength
from gankit.errors import OutputError, UsageError
from tests.checkpoints.test_rrdb_layouts import NAMES, RRDBNet

OPTIONS = {"blocks": 1, "channels": 8}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pair(tmp_path):
    """Two small generators of the same layers, as files."""
    for seed, name in enumerate(("soft", "sharp")):
        torch.manual_seed(seed)
        state = models.build("edsr", OPTIONS).state_dict()
        save(tmp_path / f"{name}.safetensors", state, "edsr", OPTIONS, dtype=torch.float32)
    return tmp_path / "soft.safetensors", tmp_path / "sharp.safetensors"


def test_the_ends_are_the_generators_themselves(pair):
    soft, sharp = pair
    assert at_strength("srgan", None) == "srgan"
    assert [at_strength("srgan", end) for end in (0, 1)] == ["srresnet", "srgan"]
    assert [at_strength("srresnet", end) for end in (0.0, 1.0)] == ["srresnet", "srgan"]
    assert [at_strength(sharp, end, soft) for end in (0, 1)] == [soft, sharp]


def test_between_them_the_weights_are_the_mean(pair):
    soft, sharp = pair
    mixed, ends = load_file(at_strength(sharp, 0.25, soft)), (load_file(soft), load_file(sharp))
    assert mixed.keys() == ends[0].keys()
    for name, value in mixed.items():
        wanted = 0.75 * ends[0][name].double() + 0.25 * ends[1][name].double()
        torch.testing.assert_close(value.double(), wanted, rtol=1e-7, atol=1e-9)
        assert not torch.equal(ends[0][name], ends[1][name]) or not value.any()


def test_the_shipped_pair():
    path = at_strength("srgan", 0.5)
    ends = [open_model(weights_path(name)).generator.state_dict() for name in ("srresnet", "srgan")]
    loaded = open_model(path)
    assert (loaded.facts.name, loaded.facts.scale) == ("srgan", 4)
    for name, value in loaded.generator.named_parameters():
        torch.testing.assert_close(value, ends[0][name].lerp(ends[1][name], 0.5))


def test_images(pair):
    image = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
    made = []
    for strength in (0, 0.5, 1):
        with Upscaler(pair[1], strength=strength, faithful=pair[0], backend="eager", precision="fp32") as upscaler:
            made.append(upscaler(image).astype(int))
    assert made[0].shape == (48, 40, 3)
    distance = [np.abs(made[first] - made[second]).mean() for first, second in ((0, 1), (1, 2), (0, 2))]
    assert 0 < max(distance[:2]) < distance[2]


def test_the_file_is_cached_and_made_again_when_it_was_changed(pair, gankit_log):
    first = at_strength(pair[1], 0.5, pair[0])
    inode = first.stat().st_ino
    assert at_strength(pair[1], 0.5, pair[0]) == first
    assert first.stat().st_ino == inode
    assert at_strength(pair[1], 0.6, pair[0]) != first
    content = first.read_bytes()
    first.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert [item.problem() for item in cached_files() if item.path == first] == ["has changed since gankit wrote it"]
    assert at_strength(pair[1], 0.5, pair[0]).read_bytes() == content
    assert [record.message for record in gankit_log.records] == [
        f"{first}: this cached file has changed since gankit wrote it; mixing the weights again"
    ]
    for item in cached_files():
        assert (item.kind, item.problem()) == ("mixed", None)
        item.delete()
    assert not list(first.parent.parent.iterdir())


def test_files_of_other_projects(tmp_path):
    """The use for which it was published: RRDB trained for PSNR, and ESRGAN."""
    for seed, name in enumerate(("RRDB_PSNR_x4.pth", "RRDB_ESRGAN_x4.pth")):
        torch.manual_seed(seed)
        torch.save(RRDBNet(NAMES["xinntao"]).state_dict(), tmp_path / name)
    mixed = at_strength(tmp_path / "RRDB_ESRGAN_x4.pth", 0.8, tmp_path / "RRDB_PSNR_x4.pth")
    assert mixed.name == "RRDB_ESRGAN_x4-strength-0.8.safetensors"
    assert open_model(mixed).facts.name == "esrgan"


def test_wrong_use(pair, tmp_path, capsys, monkeypatch):
    soft, sharp = pair
    other = tmp_path / "other.safetensors"
    save(other, models.build("edsr", {**OPTIONS, "blocks": 2}).state_dict(), "edsr", {**OPTIONS, "blocks": 2})
    for arguments, words in (
        ((sharp, 0.5), "name one with --faithful, or use --model edsr-photo or edsr-sharp or srgan or srresnet"),
        (("edsr", 0.5), "'edsr' has no faithful partner"),
        ((sharp, 0.5, other), "have different layers"),
        ((sharp, None, soft), "--faithful needs --strength"),
        ((sharp, float("nan"), soft), "strength must be from 0"),
        ((sharp, 1.5, soft), "strength must be from 0 (faithful) to 1 (sharp), not 1.5"),
        ((models.build("edsr", OPTIONS), 0.5), "strength mixes weights files"),
    ):
        with pytest.raises(UsageError) as found:
            at_strength(*arguments)
        assert words in str(found.value)
    assert cli.main(["upscale", str(tmp_path), "--strength", "2"]) == 2
    assert "--strength" in capsys.readouterr().err
    blocked = tmp_path / "blocked"
    blocked.write_bytes(b"")
    monkeypatch.setenv("GANKIT_CACHE", str(blocked))
    with pytest.raises(OutputError, match="set GANKIT_CACHE to a folder with free space"):
        at_strength(sharp, 0.5, soft)


def test_the_export_is_named_for_it(pair, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["export", "--model", pair[1], "--faithful", pair[0], "--strength", "0.5"]
    assert cli.main([str(word) for word in words]) == 0
    assert (tmp_path / "sharp-strength-0.5_x4_fp32.onnx").is_file()


def test_evaluate_has_a_column_for_each(pair, tmp_path):
    (tmp_path / "hr").mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (48, 48, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "hr" / "a.png")
    words = ["evaluate", "upscale", "--model", pair[1], "--faithful", pair[0], "--strength", "0", "--strength", "1"]
    report = tmp_path / "report.json"
    assert cli.main([*map(str, words), "--hr", str(tmp_path / "hr"), "--json", str(report), "--backend", "eager"]) == 0
    results = json.loads(report.read_text())["results"]
    assert list(results) == ["bicubic", f"{pair[1]} 0", f"{pair[1]} 1"]
    assert results[f"{pair[1]} 0"] != results[f"{pair[1]} 1"]
