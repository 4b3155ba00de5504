"""The Python API, with an engine that repeats pixels."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pipeline_fakes import Repeat, selection

import gankit
from gankit import models
from gankit.backends.choice.parity import Parity
from gankit.backends.choice.select import Selection
from gankit.checkpoints.types import Loaded
from gankit.errors import ImageError, OutputError, UsageError
from gankit.options import EngineOptions


@pytest.fixture
def engine(monkeypatch, tmp_path):
    """Every Upscaler gets this engine; ``engine.selects`` has what was asked of the choice."""
    made = Repeat(4)
    made.selects = []
    generator = models.build("srgan", {"blocks": 1, "channels": 8}).eval()
    loaded = Loaded(
        module=generator,
        facts=models.facts("srgan", {"blocks": 1, "channels": 8}),
        sha256="0" * 64,
        path=tmp_path / "x.safetensors",
    )

    def select(given, options, **more):
        made.selects.append((options, more))
        return selection(made)

    monkeypatch.setattr("gankit.pipeline.opened.look_up", lambda question: None)
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
        ("no such.png", ImageError, "no such file"),
        ({}, UsageError, "builtins.dict"),
        ([[1, 2], [3, 4]], UsageError, "image 0 of the list.*builtins.list"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 5), np.uint8)], UsageError, "image 1 of the list"),
        (np.zeros((4, 4, 3), np.int64), UsageError, "int64"),
        (np.zeros((4, 4, 5), np.uint8), UsageError, r"\(4, 4, 5\)"),
        (np.zeros((0, 4, 3), np.uint8), UsageError, r"\(0, 4, 3\)"),
        (np.zeros((2, 4, 4, 5), np.uint8), UsageError, r"\(2, 4, 4, 5\)"),
        (np.full((4, 4, 3), 200.0), UsageError, "looks like 0 to 255; divide it by 255"),
        (np.full((4, 4, 3), 40000, np.float32), UsageError, "looks like 0 to 65535"),
        (np.linspace(-1, 1, 48).reshape(4, 4, 3), UsageError, "looks like -1 to 1; use x / 2"),
        (np.full((4, 4, 3), 1.2), UsageError, "from 1.2 to 1.2; clip it"),
        (np.full((4, 4, 3), math.inf), UsageError, "finite"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.int32), UsageError, "torch.int32"),
        (torch.zeros(4, 4, 3), UsageError, r"\(4, 4, 3\)"),
        (torch.zeros(4, 4, 9, dtype=torch.uint8)[0], UsageError, r"\(4, 9\)"),
        (torch.full((3, 4, 4), 255.0), UsageError, "looks like 0 to 255"),
        (torch.full((3, 4, 4), math.nan), UsageError, "finite"),
        (Image.new("F", (4, 4)), UsageError, "floating-point"),
    ],
)
def test_wrong_images_are_named(engine, image, error, words):
    with pytest.raises(error, match=words):
        gankit.Upscaler()(image)
    assert engine.shapes == []


def test_a_pillow_image_that_is_closed_or_ends_early(engine, folder):
    image = Image.open(folder / "a.png")
    image.close()
    with pytest.raises(UsageError, match="the Pillow image cannot be read"):
        gankit.Upscaler()(image)
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:200])
    with Image.open(folder / "cut.png") as cut, pytest.raises(UsageError, match="the Pillow image cannot be read"):
        gankit.Upscaler()(cut)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 1), (6, 7, 3), (6, 7, 4), (2, 6, 7, 3), (2, 6, 7, 1)])
def test_numpy_floats(engine, dtype, shape):
    array = np.random.default_rng(0).random(shape).astype(dtype).clip(0.01, 1)
    result = gankit.Upscaler()(array)
    axis = 1 if len(shape) == 4 else 0
    wanted = array.repeat(4, axis=axis).repeat(4, axis=axis + 1)
    np.testing.assert_array_equal(result, wanted.astype(np.float32).astype(dtype))
    assert result.dtype == dtype
    assert set(engine.dtypes) == {torch.float32}


def test_hidden_colours_of_floats(engine):
    array = np.random.default_rng(0).random((6, 8, 4), dtype=np.float32)
    array[:3, ..., 3] = 0
    array[3:, ..., 3] = 1
    result = gankit.Upscaler()(array)
    np.testing.assert_array_equal(result[..., 3], grown(array[..., 3]))
    np.testing.assert_array_equal(result[12:, ..., :3], grown(array[3:, ..., :3]))
    assert result[:12, ..., :3].min() >= array[3:, ..., :3].min()


def test_floats_that_exceed_the_range_by_rounding_are_clipped(engine):
    result = gankit.Upscaler()(np.array([[-1e-4, 1 + 1e-4]] * 2))
    assert (result.min(), result.max()) == (0, 1)


@pytest.mark.parametrize("shape", [(3, 6, 7, 3), (3, 6, 7, 1), (0, 6, 7, 3), (2, 6, 7, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_batches_of_arrays(engine, shape, dtype):
    array = noise(*shape, dtype=dtype)
    array[..., 3:] = np.maximum(array[..., 3:], 1)
    result = gankit.Upscaler()(array)
    np.testing.assert_array_equal(result, array.repeat(4, axis=1).repeat(4, axis=2))
    assert result.dtype == dtype


@pytest.mark.parametrize("shape", [(2, 3, 6, 7), (3, 6, 7), (0, 3, 6, 7), (1, 6, 7), (4, 6, 7)])
def test_tensors_of_bytes(engine, shape):
    batch = torch.from_numpy(noise(*shape))
    if shape[-3] == 4:
        batch[3].clamp_(min=1)
    result = gankit.Upscaler()(batch)
    assert result.dtype == torch.uint8
    assert torch.equal(result, batch.repeat_interleave(4, -1).repeat_interleave(4, -2))


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_give_pillow_images(engine, folder, kind):
    result = gankit.Upscaler()(kind(folder / "a.png"))
    assert isinstance(result, Image.Image)
    with Image.open(folder / "a.png") as source:
        np.testing.assert_array_equal(np.asarray(result), grown(np.asarray(source)))


def test_what_is_lost_of_a_path_is_said(engine, tmp_path):
    frames = [Image.new("RGB", (8, 8), (value, 0, 0)) for value in (0, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    lines = []
    gankit.Upscaler(notify=lines.append)(tmp_path / "a.gif")
    assert any(line.startswith(f"{tmp_path / 'a.gif'}: only the first of 2 frames") for line in lines)


@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_of_anything(engine, folder, kind):
    array, tensor, gray = noise(6, 7, 3), torch.rand(3, 5, 5), Image.new("L", (7, 6), 9)
    results = gankit.Upscaler()(kind([array, tensor, gray, folder / "a.png", noise(2, 6, 7, 3), array / 255]))
    assert isinstance(results, list)
    assert [type(result) for result in results] == [np.ndarray, torch.Tensor, *[Image.Image] * 2, *[np.ndarray] * 2]
    np.testing.assert_array_equal(results[0], grown(array))
    assert torch.equal(results[1], tensor.repeat_interleave(4, -1).repeat_interleave(4, -2))
    assert (results[2].mode, results[2].size) == ("L", (28, 24))
    assert results[3].size == (48, 40)
    assert results[4].shape == (2, 24, 28, 3)
    np.testing.assert_allclose(results[5], grown(array / 255), atol=1e-7)
    assert gankit.Upscaler()([]) == []


def test_images_of_one_size_share_calls(engine, monkeypatch):
    array = noise(5, 6, 7, 3)
    result = gankit.Upscaler(batch=2)(array)
    np.testing.assert_array_equal(result, array.repeat(4, axis=1).repeat(4, axis=2))
    assert [shape[0] for shape in engine.shapes] == [2, 2, 1]
    engine.shapes.clear()
    floats = gankit.Upscaler(batch=2)([array[0] / 255, array[1] / 255, noise(8, 8, 3) / 255])
    assert [shape[0] for shape in engine.shapes] == [2, 1]
    np.testing.assert_allclose(floats[1], grown(array[1] / 255), atol=1e-7)


def test_an_image_too_large_is_an_error_of_gankit(engine, monkeypatch):
    upscaler = gankit.Upscaler()
    upscaler(noise(4, 4, 3))
    monkeypatch.setattr("gankit.memory.available_memory", lambda limit=None: 1000)
    with pytest.raises(gankit.NoMemoryError, match=r"40×40 pixels takes about .* are available"):
        upscaler(noise(40, 40, 3))


def test_calls_leave_nothing_behind(engine):
    upscaler = gankit.Upscaler(batch=2)
    for _ in range(3):
        upscaler([noise(6, 7, 3)] * 3)
    assert upscaler._engines._made_by == {}


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
    assert 0 <= report.totals.engine_share <= 1
    assert report.totals.bottleneck in ("engine", "decoder", "encoder")
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
        lambda *_, **__: Selection(engine=engine, parity=Parity(math.inf, 0.0), summary=""),
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
