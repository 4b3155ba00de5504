"""The Python API, with an engine that repeats pixels."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pipeline_fakes import Repeat, selection

import gankit
from gankit import models
from gankit.backends.choice.parity import Parity
from gankit.errors import ImageError, OutputError, UsageError
from gankit.options import EngineOptions


@pytest.fixture
def engine(monkeypatch, tmp_path):
    """Every Upscaler gets this engine; ``engine.selects`` has what was asked of the choice."""
    made = Repeat(4)
    made.selects = []
    generator = models.build("srgan", {"blocks": 1, "channels": 8}).eval()
    loaded = SimpleNamespace(
        generator=generator,
        facts=models.facts("srgan", {"blocks": 1, "channels": 8}),
        sha256="0" * 64,
        path=tmp_path / "x.safetensors",
    )

    def select(given, options, **more):
        made.selects.append((options, more))
        return selection(made)

    monkeypatch.setattr("gankit.checkpoints.open_model", lambda name, **options: loaded)
    monkeypatch.setattr("gankit.backends.choice.select.select", select)
    monkeypatch.setattr("gankit.backends.choice.select.check", lambda loaded, options: None)  # of any processor
    return made


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def grown(array):
    return array.repeat(4, axis=0).repeat(4, axis=1)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    for index, name in enumerate(("a.png", "b.png", "sub/c.png")):
        Image.fromarray(noise(10 + index, 12, 3)).save(root / name)
    return root


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 1), (6, 7, 3), (6, 7, 4), (1, 1, 3)])
def test_numpy(engine, dtype, shape):
    array = noise(*shape, dtype=dtype)
    if shape[2:] == (4,):
        array[..., 3] = np.maximum(array[..., 3], 1)  # nothing to bleed
    result = gankit.Upscaler()(array)
    np.testing.assert_array_equal(result, grown(array))
    assert result.dtype == dtype


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_pillow(engine, mode):
    image = Image.fromarray(noise(6, 7, dtype=np.uint16)) if mode == "I;16" else Image.new(mode, (7, 6), 9)
    result = gankit.Upscaler()(image)
    assert (result.mode, result.size) == (mode, (28, 24))


def test_pillow_palette(engine):
    image = Image.fromarray(noise(6, 7, 3)).quantize(8)
    result = gankit.Upscaler()(image)
    assert result.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(result), grown(np.asarray(image.convert("RGB"))))


@pytest.mark.parametrize("shape", [(2, 3, 6, 7), (3, 6, 7), (0, 3, 6, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_torch(engine, shape, dtype):
    batch = torch.rand(shape).to(dtype)
    result = gankit.Upscaler()(batch)
    assert result.dtype == dtype
    assert torch.equal(result, batch.repeat_interleave(4, -1).repeat_interleave(4, -2))


def test_torch_is_clamped(engine):
    engine.change = lambda batch: batch * 3 - 1
    result = gankit.Upscaler()(torch.rand(1, 3, 8, 8))
    assert result.min() >= 0
    assert result.max() <= 1


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        ("a.png", TypeError, "builtins.str"),
        (np.zeros((4, 4, 3), np.float32), TypeError, "float32"),
        (np.zeros((4, 4, 5), np.uint8), ValueError, r"\(4, 4, 5\)"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, r"\(0, 4, 3\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), ValueError, r"\(1, 4, 4, 3\)"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), TypeError, "torch.uint8"),
        (torch.zeros(4, 4, 3), ValueError, r"\(4, 4, 3\)"),
        (torch.full((3, 4, 4), math.nan), ValueError, "finite"),
    ],
)
def test_wrong_images_are_named(engine, image, error, words):
    with pytest.raises(error, match=words):
        gankit.Upscaler()(image)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"tile": 0}, "tile"),
        ({"tile": "big"}, "tile"),
        ({"batch": True}, "batch"),
        ({"threads": -1}, "threads"),
    ],
)
def test_wrong_options_are_named(options, words):
    with pytest.raises(UsageError, match=words):
        gankit.Upscaler(**options)


def test_an_unknown_model_is_reported_at_once():
    with pytest.raises(UsageError, match="did you mean 'srgan'"):
        gankit.Upscaler("srgam")


def test_run_mirrors_and_reports(engine, folder, tmp_path):
    states = []
    with gankit.Upscaler(backend="auto", precision="bf16", device="cpu", threads=1) as upscaler:
        report = upscaler.run(folder, tmp_path / "out", suffix="_x4", progress=states.append)
    assert engine.closed == 1
    asked, more = engine.selects[0]
    assert asked == EngineOptions(precision="bf16", device="cpu", threads=1)
    assert more["job_pixels"] == 10 * 12 + 11 * 12 + 12 * 12
    for name in ("a", "b", "sub/c"):
        source, result = (np.asarray(Image.open(tmp_path / f"{at}.png")) for at in (f"in/{name}", f"out/{name}_x4"))
        np.testing.assert_array_equal(result, grown(source))
    assert report.totals.done == 3
    assert report.totals.output_mp == pytest.approx(16 * report.totals.input_mp)
    assert states[-1].done == 3

    report.write(tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["totals"]["done"] == 3
    assert content["engine"]["backend"] == "repeat"
    assert content["engine"]["parity_db"] == 70
    assert content["model"]["sha256"] == "0" * 64
    assert content["images"][0]["source"].endswith("in/a.png")
    assert content["images"][0]["output_size"] == [48, 40]
    assert {"torch", "gankit", "python"} <= set(content["versions"])
    assert content["machine"]["cpu"]


def test_equal_images_have_a_parity_that_json_can_hold(engine, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "gankit.backends.choice.select.select",
        lambda *_, **__: SimpleNamespace(engine=engine, parity=Parity(math.inf, 0.0), summary="", measured=()),
    )
    report = gankit.Upscaler().run(folder, tmp_path / "out")
    assert report.engine.parity_db == math.inf
    report.write(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["engine"]["parity_db"] == "inf"


def test_what_is_there_is_skipped_before_it_is_decoded(engine, folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    gankit.Upscaler().run([folder], out)
    before = (out / "a.png").stat().st_mtime_ns
    engine.selects.clear()

    def refuse(path, **_):
        raise AssertionError(f"{path} was decoded")

    with monkeypatch.context() as patch:
        patch.setattr("gankit.images.decode", refuse)
        report = gankit.Upscaler().run([folder], out)
    assert [item.status for item in report.images] == ["skipped"] * 3
    assert engine.selects == []  # not even an engine is loaded
    assert report.engine is None
    assert (out / "a.png").stat().st_mtime_ns == before
    (folder / "d.png").write_bytes((folder / "b.png").read_bytes())
    report = gankit.Upscaler().run([folder], out)
    assert [item.status for item in report.images] == ["skipped", "skipped", "done", "skipped"]
    (folder / "a.png").write_bytes(b"no longer an image")
    report = gankit.Upscaler().run([folder], out, overwrite=True)
    assert [item.status for item in report.images] == ["failed", "done", "done", "done"]
    assert (out / "a.png").stat().st_mtime_ns == before  # a failure harms nothing that is there


def test_output_that_is_a_file(engine, folder, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match=r"out: the output folder cannot be written: a file is in its place"):
        gankit.Upscaler().run(folder, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"
    assert engine.selects == []


def test_a_closed_upscaler_says_so(engine):
    upscaler = gankit.Upscaler()
    upscaler(noise(4, 4, 3))
    upscaler.close()
    upscaler.close()
    with pytest.raises(UsageError, match="closed"):
        upscaler(noise(4, 4, 3))


def test_the_engine_is_chosen_once(engine):
    upscaler = gankit.Upscaler()
    assert engine.selects == []
    for _ in range(3):
        upscaler(noise(4, 4, 3))
    assert len(engine.selects) == 1


def test_wrong_quality_and_report(engine, folder, tmp_path):
    with pytest.raises(UsageError, match="quality"):
        gankit.Upscaler().run(folder, tmp_path / "out", quality=0)
    report = gankit.Upscaler().run(folder, tmp_path / "out")
    with pytest.raises(OutputError, match="cannot be written"):
        report.write(tmp_path / "missing" / "report.json")
    assert not list(tmp_path.glob(".gankit*"))


def test_an_undecodable_image_is_in_the_report(engine, folder, tmp_path, monkeypatch):
    def decode(path, **_):
        raise ImageError(path, "broken")

    monkeypatch.setattr("gankit.images.decode", decode)
    report = gankit.Upscaler().run(folder, tmp_path / "out")
    assert len(report.failures) == 3
    assert json.loads(json.dumps(report.to_dict()))["totals"]["failed"] == 3
