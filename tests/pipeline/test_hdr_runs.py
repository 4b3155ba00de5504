"""Images in linear light through the whole pipeline."""

import json

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import gankit
from gankit import checkpoints
from gankit.cli import main
from tests.cli.cli_fakes import install
from tests.networks import small_srgan

LIGHT = np.random.default_rng(0).normal(1, 2, (12, 17, 3)).astype(np.float32)
OPTIONS = {"scale": 4, "channels": 8, "blocks": 1}


@pytest.fixture
def openexr():
    return pytest.importorskip("OpenEXR", reason="needs the extra exr")


def write_exr(openexr, path, pixels):
    with openexr.File({"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}, {"RGB": pixels}) as file:
        file.write(str(path))


def read_exr(openexr, path):
    with openexr.File(str(path)) as file:
        return file.channels()["RGB"].pixels.copy()


def test_values_of_any_range_reach_the_result(openexr, tmp_path, monkeypatch, capsys):
    """EXR becomes EXR and TIFF becomes TIFF; an engine that repeats pixels returns each value."""
    install(monkeypatch.setattr)
    write_exr(openexr, tmp_path / "a.exr", LIGHT)
    tifffile.imwrite(tmp_path / "b.tif", LIGHT, photometric="rgb")
    report = tmp_path / "report.json"
    paths = [str(tmp_path / name) for name in ("a.exr", "b.tif")]
    assert main(["upscale", *paths, "-o", str(tmp_path / "out"), "--report", str(report)]) == 0
    wanted = LIGHT.repeat(4, axis=0).repeat(4, axis=1)
    assert np.abs(read_exr(openexr, tmp_path / "out" / "a.exr") - wanted).max() < 2e-5
    assert np.abs(tifffile.imread(tmp_path / "out" / "b.tif") - wanted).max() < 2e-5
    said = f"linear values from {LIGHT.min():.4g} to {LIGHT.max():.4g} are kept"
    assert capsys.readouterr().err.count(said) == 2
    assert all(said in image["notes"] for image in json.loads(report.read_text())["images"])


def test_pages_of_linear_light(tmp_path, monkeypatch):
    install(monkeypatch.setattr)
    tifffile.imwrite(tmp_path / "a.tif", np.stack([LIGHT, LIGHT * 2]), photometric="rgb")
    assert main(["upscale", str(tmp_path / "a.tif"), "-o", str(tmp_path / "out"), "-q"]) == 0
    with tifffile.TiffFile(tmp_path / "out" / "a.tif") as file:
        assert len(file.pages) == 2
        pages = [page.asarray() for page in file.pages]
    for page, wanted in zip(pages, (LIGHT, LIGHT * 2), strict=True):
        assert np.abs(page - wanted.repeat(4, axis=0).repeat(4, axis=1)).max() < 4e-5


def test_a_photograph_in_linear_light_gives_the_result_of_its_png(openexr, tmp_path):
    torch.manual_seed(0)
    weights = tmp_path / "small.safetensors"
    checkpoints.save(weights, small_srgan(**OPTIONS).state_dict(), "srgan", OPTIONS, dtype=torch.float32)
    y, x = np.mgrid[:24, :30] / 30
    levels = np.rint(255 * np.stack([x, y, 0.5 + 0.4 * np.sin(9 * x * y)], -1)).astype(np.uint8)
    Image.fromarray(levels).save(tmp_path / "a.png")
    values = levels / 255.0
    light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    write_exr(openexr, tmp_path / "b.exr", light.astype(np.float32))
    with gankit.Upscaler(weights, backend="eager", precision="fp32", device="cpu") as upscaler:
        upscaler.run([tmp_path / "a.png", tmp_path / "b.exr"], tmp_path / "out")
    made = np.clip(read_exr(openexr, tmp_path / "out" / "b.exr").astype(np.float64), 0, 1)
    shown = 255 * np.where(made <= 0.0031308, 12.92 * made, 1.055 * np.maximum(made, 1e-9) ** (1 / 2.4) - 0.055)
    wanted = np.asarray(Image.open(tmp_path / "out" / "a.png"), np.float64)
    assert wanted.std() > 5
    assert np.abs(shown - wanted).max() < 0.52  # the PNG is rounded


def test_the_report_names_ignored_files(tmp_path, monkeypatch):
    install(monkeypatch.setattr)
    folder = tmp_path / "in"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    (folder / "notes.txt").write_text("x")
    report = tmp_path / "r.json"
    assert main(["upscale", str(folder), "-o", str(tmp_path / "out"), "-q", "--report", str(report)]) == 0
    found = json.loads(report.read_text())
    assert found["ignored_files"] == [str(folder / "notes.txt")]
    assert found["totals"]["ignored"] == 1
