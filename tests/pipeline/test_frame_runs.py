"""Animations and multi-page TIFFs through the pipeline, with an engine that blurs each frame."""

import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageDraw, ImageSequence
from pipeline_fakes import Repeat, selection

import gankit
from gankit import models
from gankit.errors import OutputError
from gankit.images import decode

TIMES = [50, 100, 30, 200, 70]


def blurred(batch):
    wide = torch.nn.functional.avg_pool2d(batch.float(), 3, 1, 1, count_include_pad=False)
    return wide.round().to(batch.dtype)


@pytest.fixture
def engine(monkeypatch, tmp_path):
    """The engine of every upscaler; ``engine.shapes`` has the batches that it saw."""
    options = {"blocks": 1, "channels": 8, "scale": 2}
    made = Repeat(2, change=blurred)
    loaded = SimpleNamespace(
        generator=models.build("srgan", options).eval(),
        facts=models.facts("srgan", options),
        sha256="0" * 64,
        path=tmp_path / "x.safetensors",
    )
    monkeypatch.setattr("gankit.checkpoints.open_model", lambda name, **options: loaded)
    monkeypatch.setattr("gankit.pipeline.opened.look_up", lambda question: None)
    monkeypatch.setattr("gankit.backends.choice.select.select", lambda *_, **__: selection(made))
    monkeypatch.setattr("gankit.backends.choice.select.check", lambda loaded, options: None)
    return made


@pytest.fixture
def lines():
    return []


@pytest.fixture
def upscaler(engine, lines):
    with gankit.Upscaler("srgan", notify=lines.append) as made:
        yield made


def drawn(mode="RGBA", count=5, size=(34, 26)):
    """A disc that moves and changes its colour, on nothing or on black."""
    frames = []
    for index in range(count):
        frame = Image.new(mode, size, 0)
        colour = (255, 50 * index, 0, 255)[: len(mode)]
        ImageDraw.Draw(frame).ellipse((5 * index, 4, 5 * index + 12, 16), fill=colour)
        frames.append(frame)
    return frames


def animation(path, frames=None, **options):
    frames = frames or drawn()
    given = {"duration": TIMES[: len(frames)], "loop": 0, "disposal": 2, **options}
    if path.suffix == ".webp":
        given = {"lossless": True, "exact": True, **given}
    if path.suffix in (".webp", ".avif"):
        del given["disposal"]
    frames[0].save(path, save_all=True, append_images=frames[1:], **given)
    return path


def composed(path, mode="RGBA"):
    """The frames of a file as Pillow composes them, and their times."""
    with Image.open(path) as file:
        return [(frame.convert(mode), frame.info.get("duration", 0)) for frame in ImageSequence.Iterator(file)]


def one_by_one(upscaler, frames, folder):
    """What gankit makes of each frame that was saved as a PNG."""
    (folder / "each").mkdir()
    for index, frame in enumerate(frames):
        frame.save(folder / "each" / f"{index}.png")
    report = upscaler.run(folder / "each", folder / "each_made")
    return [decode(image.target).channels() for image in report.images]


def visible(pixels):
    return np.where(pixels[..., 3:] > 0, pixels, 0) if pixels.shape[-1] == 4 else pixels


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
@pytest.mark.parametrize("mode", ["RGBA", "RGB"])
def test_each_frame_is_what_its_still_image_becomes(upscaler, lines, tmp_path, name, mode):
    source = animation(tmp_path / name, drawn(mode))
    report = upscaler.run(source, tmp_path / "out", format="png")
    made = report.images[0]
    assert (made.status, made.frames, made.input_size, made.output_size) == ("done", 5, (34, 26), (68, 52))
    assert made.target == tmp_path / "out" / "a.png"
    assert lines[-1] == f"{source} has several frames and becomes animated PNG (APNG)"
    frames, results = composed(source, mode), composed(made.target, mode)
    assert [time for _, time in results] == [time for _, time in frames] == TIMES
    stills = one_by_one(upscaler, [frame for frame, _ in frames], tmp_path)
    for (result, _), still in zip(results, stills, strict=True):
        assert np.array_equal(visible(np.asarray(result)), visible(still))
    with Image.open(made.target) as file:
        assert (file.info["loop"], file.mode) == (0, mode)


@pytest.mark.parametrize(("format", "name"), [(None, "a.png"), ("same", "a.gif"), ("gif", "a.gif"), ("webp", "a.webp")])
def test_formats_of_a_gif(upscaler, tmp_path, format, name):
    source = animation(tmp_path / "a.gif", drawn("RGB"))
    report = upscaler.run(source, tmp_path / "out", format=format)
    assert [image.target.name for image in report.images] == [name]
    results = composed(report.images[0].target, "RGB")
    assert [time for _, time in results] == TIMES
    stills = one_by_one(upscaler, [frame for frame, _ in composed(source, "RGB")], tmp_path)
    for (result, _), still in zip(results, stills, strict=True):
        difference = np.abs(np.asarray(result).astype(int) - still)
        assert difference.max() == 0 or (name == "a.webp" and difference.mean() < 4)


def test_a_format_that_holds_one_frame(upscaler, lines, tmp_path):
    source = animation(tmp_path / "a.gif", drawn("RGB"))
    report = upscaler.run(source, tmp_path / "out", format="jpg")
    assert report.images[0].notes == ("only the first of 5 frames is used",)
    assert lines == [f"{source}: only the first of 5 frames is used"]
    assert report.images[0].frames == 1


def test_pages_of_a_tiff(upscaler, tmp_path):
    random = np.random.default_rng(0)
    pages = [random.integers(0, 65536, shape, np.uint16) for shape in ((20, 30, 3), (11, 12), (9, 9, 4))]
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for index, page in enumerate(pages):
            extra = ["unassalpha"] if page.shape[-1] == 4 else None
            kind = "minisblack" if page.ndim == 2 else "rgb"
            writer.write(page, photometric=kind, extrasamples=extra, resolution=(72 + index, 72))
            tifffile.imwrite(tmp_path / f"{index}.tif", page, photometric=kind, extrasamples=extra)
    report = upscaler.run(tmp_path / "a.tif", tmp_path / "out")
    assert (report.images[0].target.name, report.images[0].frames) == ("a.tif", 3)
    with tifffile.TiffFile(report.images[0].target) as file:
        results = [(page.asarray(), page.tags["XResolution"].value) for page in file.pages]
    assert [round(x / y) for _, (x, y) in results] == [72, 73, 74]
    stills = upscaler.run([tmp_path / f"{index}.tif" for index in range(3)], tmp_path / "stills")
    for (result, _), still in zip(results, stills.images, strict=True):
        assert result.dtype == np.uint16
        assert np.array_equal(result, decode(still.target).channels())
    report = upscaler.run(tmp_path / "a.tif", tmp_path / "out", format="png")
    assert report.images[0].notes == ("only the first of 3 pages is used",)


def test_equal_frames_are_computed_once(engine, upscaler, tmp_path):
    one, two = drawn("RGB", 2)
    order = [one, one, two, two, two, one]
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for frame in order:
            writer.write(np.asarray(frame), photometric="rgb")
    report = upscaler.run(tmp_path / "a.tif", tmp_path / "out")
    assert report.images[0].frames == 6
    assert sum(shape[0] for shape in engine.shapes) == 3
    with tifffile.TiffFile(report.images[0].target) as file:
        pages = [page.asarray() for page in file.pages]
    assert [np.array_equal(page, pages[0]) for page in pages] == [frame is one for frame in order]


def test_a_folder_of_stills_and_animations(upscaler, lines, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    drawn("RGB")[1].save(folder / "still.gif")
    drawn("RGB")[1].save(folder / "still.png")
    animation(folder / "a.gif")
    animation(folder / "b.webp")
    report = upscaler.run(folder, tmp_path / "out", progress=(states := []).append)
    assert [image.target.name for image in report.images] == ["a.png", "b.webp", "still_gif.png", "still_png.png"]
    assert [image.frames for image in report.images] == [5, 5, 1, 1]
    assert "2 files have several frames and become 1 animated PNG (APNG), 1 animated WebP" in lines
    assert {state.total for state in states} == {4}
    assert [state.done for state in states] == sorted(state.done for state in states)
    assert (states[-1].done, states[-1].failed) == (4, 0)
    assert report.totals.output_mp == pytest.approx(12 * 68 * 52 / 1e6)
    assert states[-1].output_mp == pytest.approx(12 * 68 * 52 / 1e6)
    report.write(tmp_path / "report.json")
    assert [image["frames"] for image in json.loads((tmp_path / "report.json").read_text())["images"]] == [5, 5, 1, 1]


def test_animations_are_resumed(engine, upscaler, tmp_path):
    source = animation(tmp_path / "a.gif")
    assert [each.job.target.name for each in upscaler.plan(source, tmp_path / "out")] == ["a.png"]
    upscaler.run(source, tmp_path / "out", compare=True)
    with Image.open(tmp_path / "out" / "a_compare.png") as comparison:
        assert comparison.width > 68
    count = len(engine.shapes)
    assert (upscaler.run(source, tmp_path / "out").images[0].status, len(engine.shapes)) == ("skipped", count)
    assert upscaler.run(source, tmp_path / "out", overwrite=True).images[0].status == "done"
    assert len(engine.shapes) > count
    animation(source, drawn()[::-1])
    assert upscaler.run(source, tmp_path / "out").images[0].again == "source"


def test_a_damaged_frame_fails_alone(upscaler, tmp_path):
    """Nothing is computed or left of its file, and the others are done."""
    folder = tmp_path / "in"
    folder.mkdir()
    data = animation(folder / "a.gif").read_bytes()
    (folder / "a.gif").write_bytes(data[: len(data) * 2 // 3])
    animation(folder / "b.gif")
    report = upscaler.run(folder, tmp_path / "out", failed=(failed := []).append)
    assert [image.status for image in report.images] == ["failed", "done"]
    assert report.images[0].error.startswith(f"{folder / 'a.gif'}: frame ")
    assert failed == [report.images[0]]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {".gankit.jsonl", "b.png"}


@pytest.mark.parametrize(("error", "words"), [(MemoryError(), "frame 3 of 5: "), (KeyboardInterrupt(), None)])
def test_a_frame_that_fails_in_the_engine(engine, upscaler, tmp_path, error, words):
    def failing(batch):
        if len(engine.shapes) % 3 == 0:  # also when the frames run one at a time
            raise error
        return batch

    engine.change, source = failing, animation(tmp_path / "a.gif", drawn("RGB"))
    if words is None:
        with pytest.raises(KeyboardInterrupt):
            upscaler.run(source, tmp_path / "out")
        assert upscaler.report.images[0].status == "left"
    else:
        report = upscaler.run(source, tmp_path / "out")
        assert report.images[0].status == "failed"
        assert words in report.images[0].error
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_frames_that_do_not_fit_beside_each_other_run_one_at_a_time(engine, upscaler, tmp_path, monkeypatch):
    from gankit.images.frames.png import Writer

    events, add = [], Writer.add

    def change(batch):
        events.append("engine")
        if len(engine.shapes) == 3:
            raise MemoryError
        return blurred(batch)

    def written(self, image, seconds):
        events.append("write")
        add(self, image, seconds)

    engine.change = change
    monkeypatch.setattr(Writer, "add", written)
    source = animation(tmp_path / "a.gif", drawn("RGB"))
    made = upscaler.run(source, tmp_path / "out").images[0]
    assert (made.status, made.frames, made.error) == ("done", 5, None)
    assert events[-10:] == ["engine", "write"] * 5
    assert [time for _, time in composed(made.target)] == TIMES
    stills = one_by_one(upscaler, [frame for frame, _ in composed(source, "RGB")], tmp_path)
    for (result, _), still in zip(composed(made.target, "RGB"), stills, strict=True):
        np.testing.assert_array_equal(np.asarray(result), still)


@pytest.mark.parametrize("format", [None, "avif", "same", "png"])
def test_animated_avif(upscaler, lines, tmp_path, format):
    source = animation(tmp_path / "a.avif", drawn("RGB"), quality=100, subsampling="4:4:4")
    made = upscaler.run(source, tmp_path / "out", format=format, quality=100).images[0]
    title = "animated PNG (APNG)" if format == "png" else "animated AVIF"
    assert (made.status, made.frames, made.target.suffix) == ("done", 5, ".png" if format == "png" else ".avif")
    assert lines[-1] == f"{source} has several frames and becomes {title}"
    results = composed(made.target, "RGB")
    assert [time for _, time in results] == TIMES
    stills = one_by_one(upscaler, [frame for frame, _ in composed(source, "RGB")], tmp_path)
    for (result, _), still in zip(results, stills, strict=True):
        assert np.abs(np.asarray(result).astype(int) - still).mean() < (0 if format == "png" else 2) + 1e-9


def test_frames_that_an_encoder_has_no_memory_for_are_refused_at_once(engine, upscaler, tmp_path, monkeypatch):
    source = animation(tmp_path / "a.gif", drawn("RGB"))
    upscaler.run(source, tmp_path / "before")
    engine.shapes.clear()
    monkeypatch.setattr("gankit.memory.available_memory", lambda limit=None: 16 * 68 * 52 * 3 - 1)
    made = upscaler.run(source, tmp_path / "out", format="avif").images[0]
    assert "a.avif: animated AVIF of 68×52 pixels takes about 0 MB of memory" in made.error
    assert made.error.endswith("use --format png")
    assert not engine.shapes


def test_a_full_disk_ends_the_run(upscaler, tmp_path, monkeypatch):
    from gankit.images.frames.png import Writer

    def full(self, image, seconds):
        raise OSError(28, "No space left on device")

    source = animation(tmp_path / "a.gif")
    monkeypatch.setattr(Writer, "add", full)
    with pytest.raises(OutputError, match=r"a\.png: cannot be written: No space left"):
        upscaler.run(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_few_frames_are_in_memory(upscaler, tmp_path, monkeypatch):
    """However many there are: those that are read are not far ahead of those that are written."""
    from gankit.images.frames import reading
    from gankit.images.frames.png import Writer

    read, written, ahead = [], [], []
    plain, add = reading._uniform, Writer.add

    def uniform(image, facts):
        read.append(1)
        ahead.append(len(read) - len(written))
        return plain(image, facts)

    def counted(self, image, seconds):
        written.append(1)
        add(self, image, seconds)

    monkeypatch.setattr(reading, "_uniform", uniform)
    monkeypatch.setattr(Writer, "add", counted)
    frames = [Image.fromarray(np.full((9, 9, 3), index, np.uint8)) for index in range(60)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], duration=20)
    assert upscaler.run(tmp_path / "a.png", tmp_path / "out").images[0].frames == 60
    assert max(ahead) <= 12


def test_options_of_metadata_and_size(upscaler, tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "Somebody"
    source = animation(tmp_path / "a.png", exif=exif)
    report = upscaler.run(source, tmp_path / "out", scale=3, mark_ai=True, keep_time=True)
    result = report.images[0]
    assert (result.output_size, result.notes) == (
        (102, 78),
        ("102×78 is more than the model's ×2; the rest is interpolated",),
    )
    image = decode(result.target)
    assert b"compositeWithTrainedAlgorithmicMedia" in image.xmp
    assert image.exif is not None
    assert abs(result.target.stat().st_mtime - source.stat().st_mtime) < 1
    assert decode(upscaler.run(source, tmp_path / "b", strip_metadata=True).images[0].target).exif is None


def test_a_path_gives_the_first_frame(upscaler, lines, tmp_path):
    source = animation(tmp_path / "a.gif")
    result = upscaler(source)
    assert (result.size, getattr(result, "n_frames", 1)) == ((68, 52), 1)
    assert lines == [f"{source}: only the first of 5 frames is used"]


def test_same_names_what_it_cannot_keep(upscaler, lines, tmp_path):
    pytest.importorskip("pillow_heif")
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.heic", "b.heif"):
        (folder / name).write_bytes(b"no image")
    (folder / "c.apng").write_bytes(b"no image")
    plan = upscaler.plan(folder, tmp_path / "out", format="same")
    assert [each.job.target.name for each in plan] == ["a.png", "b.png", "c.png"]
    assert lines == [f"{folder / 'a.heic'} and 1 more become PNG, because gankit does not write their formats"]


@pytest.mark.parametrize("format", ["png", "gif", "webp"])
def test_frames_of_different_kinds(upscaler, tmp_path, format):
    frames = [Image.new("RGBA", (34, 26), (90, 90, 90, 255)), *drawn()[:2]]
    source = animation(tmp_path / "a.png", frames)
    results = composed(upscaler.run(source, tmp_path / "out", format=format).images[0].target)
    stills = one_by_one(upscaler, frames, tmp_path)
    for (result, _), still in zip(results, stills, strict=True):
        opaque, pixels = still[..., 3] == 255, np.asarray(result).astype(int)
        assert np.array_equal(pixels[..., 3] > 127, still[..., 3] > 127)
        assert np.abs(pixels - still)[opaque].mean() < (6 if format == "webp" else 1e-9)


def test_gray_frames_stay_gray(upscaler, tmp_path):
    source = animation(tmp_path / "a.png", [frame.convert("L") for frame in drawn("RGB")], disposal=0)
    target = upscaler.run(source, tmp_path / "out").images[0].target
    with Image.open(target) as file:
        assert (file.mode, file.n_frames) == ("L", 5)
    again = upscaler.run(target, tmp_path / "out", format="gif").images[0]
    assert max(np.ptp(np.asarray(result).astype(int), axis=2).max() for result, _ in composed(again.target, "RGB")) == 0


@pytest.mark.parametrize("stills", [0, 3])
def test_the_report_states_the_share_of_the_engine(upscaler, tmp_path, stills):
    (tmp_path / "in").mkdir()
    animation(tmp_path / "in" / "a.png")
    for index in range(stills):
        Image.new("RGB", (40, 30), (index, 0, 0)).save(tmp_path / "in" / f"{index}.png")
    totals = upscaler.run(tmp_path / "in", tmp_path / "out").totals
    assert totals.done == stills + 1
    assert totals.engine_seconds / totals.seconds <= totals.engine_share + 1e-3
    assert totals.engine_share <= 1
    assert totals.bottleneck in ("engine", "decoder", "encoder")


def test_a_slow_decoder_of_an_animation_is_the_bottleneck(upscaler, tmp_path, monkeypatch):
    from gankit.images import frames

    probe = frames.probe

    def slow(*arguments, **limits):
        time.sleep(0.5)  # all else takes some milliseconds
        return probe(*arguments, **limits)

    monkeypatch.setattr(frames, "probe", slow)
    assert upscaler.run(animation(tmp_path / "a.png"), tmp_path / "out").totals.bottleneck == "decoder"
