"""Animations and multi-page files: read as viewers show them, and written without gankit's readers to check them."""

import struct
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import tifffile
from images_making import chunk, exif_block, pattern, srgb_profile
from PIL import GifImagePlugin, Image, ImageSequence

from gankit.errors import ImageError
from gankit.images import decode, encode, from_array
from gankit.images.encode import fitting
from gankit.images.formats import writer_of
from gankit.images.frames import FrameFacts, distinct_frames, format_for, frame_writer, kind_of, probe

MS = Fraction(1, 1000)


def moving(count=4, height=22, width=31, alpha=True):
    """Frames with a disc of some grays that moves over nothing, RGBA with transparency on or off; or RGB."""
    rows, columns = np.mgrid[:height, :width]
    noise = np.repeat((rows * 5 + columns * 3)[..., None] // 32 * 32 + 32, 3, axis=2).astype(np.uint8)
    frames = []
    for index in range(count):
        disc = (rows - 10) ** 2 + (columns - 6 - 5 * index) ** 2 < 40
        frame = np.zeros((height, width, 4), np.uint8)
        frame[disc] = 255
        frame[..., :3] = np.where(disc[..., None], noise, 0)
        frames.append(frame if alpha else frame[..., :3])
    return frames


def written(path, frames, seconds, plays=0, **metadata):
    """Write frames as gankit does."""
    images = [frame if hasattr(frame, "pixels") else from_array(frame) for frame in frames]
    alpha = any(image.alpha is not None for image in images)
    facts = FrameFacts(path, "gif", tuple(seconds), (1,) * len(frames), plays, alpha, all(x.gray for x in images))
    with path.open("x+b") as file:
        format = writer_of(path.suffix)
        writer = frame_writer(format, file, facts, 95)
        for image, duration in zip(images, seconds, strict=True):
            writer.add(fitting(image, format)[0], duration)
        return writer.finish()


def shown(path, mode):
    """Each frame as Pillow composes it, its duration in ms, and the loop."""
    with Image.open(path) as file:
        found = [(np.asarray(frame.convert(mode)), frame.info["duration"]) for frame in ImageSequence.Iterator(file)]
        return *zip(*found, strict=True), file.info.get("loop")


def composed(path, **options):
    facts = probe(path, kind_of(path), 10**6, **options)
    return facts, list(distinct_frames(facts, 10**6))


def visible(frame):
    """RGBA with the colours of transparent pixels at 0."""
    return np.where(frame[..., 3:] > 0, frame, 0)


@pytest.mark.parametrize("disposal", [0, 1, 2])
def test_a_gif_is_read_as_it_is_shown(tmp_path, disposal):
    frames = [Image.fromarray(frame) for frame in moving()]
    times = [50, 100, 0, 70]
    frames[0].save(
        tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=times, loop=3, disposal=disposal
    )
    facts, images = composed(tmp_path / "a.gif")
    assert (facts.count, facts.runs, facts.plays, facts.alpha) == (4, (1, 1, 1, 1), 4, True)
    assert [time / MS for time in facts.seconds] == times
    for image, (pixels, _, _) in zip(images, _gif_frames(tmp_path / "a.gif"), strict=True):
        assert np.array_equal(visible(image.channels()), visible(pixels))
    if disposal == 2:  # each frame as it was made
        for image, frame in zip(images, moving(), strict=True):
            assert np.array_equal(visible(image.channels()), frame)


def _gif_frames(path):
    with Image.open(path) as file:
        for number in range(file.n_frames):
            file.seek(number)
            yield np.asarray(file.convert("RGBA")), file.info["duration"], file.disposal_method


@pytest.mark.parametrize(("loop", "plays"), [(None, 1), (0, 0), (1, 2), (7, 8)])
def test_how_often_a_gif_plays(tmp_path, loop, plays):
    """The number in a GIF is that of repetitions, as in browsers and in libwebp's gif2webp."""
    frames = [Image.fromarray(frame) for frame in moving(alpha=False)]
    more = {} if loop is None else {"loop": loop}
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=50, **more)
    facts, _ = composed(tmp_path / "a.gif")
    assert facts.plays == plays
    written(tmp_path / "b.gif", moving(alpha=False), [MS * 50] * 4, facts.plays)
    written(tmp_path / "b.png", moving(alpha=False), [MS * 50] * 4, facts.plays)
    written(tmp_path / "b.webp", moving(alpha=False), [MS * 50] * 4, facts.plays)
    assert shown(tmp_path / "b.gif", "RGB")[2] == loop
    assert shown(tmp_path / "b.png", "RGB")[2] == shown(tmp_path / "b.webp", "RGB")[2] == plays


@pytest.mark.parametrize("alpha", [True, False])
@pytest.mark.parametrize("blend", [0, 1])
def test_an_apng_is_read_as_it_is_shown(tmp_path, alpha, blend):
    frames = [Image.fromarray(frame) for frame in moving(alpha=alpha)]
    times = [40, 15, 1000 / 3, 2500]
    frames[0].save(
        tmp_path / "a.png", save_all=True, append_images=frames[1:], duration=times, loop=2, disposal=1, blend=blend
    )
    facts, images = composed(tmp_path / "a.png")
    assert (facts.plays, facts.alpha) == (2, alpha)
    assert facts.seconds == (Fraction(1, 25), Fraction(3, 200), Fraction(1, 3), Fraction(5, 2))
    for image, frame in zip(images, shown(tmp_path / "a.png", "RGBA" if alpha else "RGB")[0], strict=True):
        assert np.array_equal(image.channels(), frame)


def test_a_still_image_before_an_animation_is_none_of_its_frames(tmp_path):
    frames = [Image.fromarray(frame) for frame in moving()]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], default_image=True, duration=50)
    facts, images = composed(tmp_path / "a.png")
    assert facts.notes == ("its still image, which is none of the frames, is not kept",)
    assert len(images) == facts.count == 3
    assert np.array_equal(images[0].channels(), moving()[1])


def test_equal_frames_are_found(tmp_path):
    first, second = (Image.fromarray(frame) for frame in moving(2, alpha=False))
    order = [first, first, second, second, second, first]
    first.save(tmp_path / "a.webp", save_all=True, append_images=order[1:], duration=20, lossless=True, kmax=0)
    written(tmp_path / "a.png", [np.asarray(each) for each in order], [MS * 20] * 6)
    facts, images = composed(tmp_path / "a.png")
    assert facts.runs == (2, 3, 1)
    assert [np.array_equal(image.pixels, np.asarray(first)) for image in images] == [True, False, True]


@pytest.mark.parametrize("suffix", [".png", ".gif", ".webp"])
@pytest.mark.parametrize("alpha", [True, False])
def test_frames_are_written_with_their_times(tmp_path, suffix, alpha):
    frames = moving(alpha=alpha)
    frames[2] = frames[1]  # an equal frame stays a frame
    times = [40, 120, 20, 1000]
    notes = written(tmp_path / f"a{suffix}", frames, [time * MS for time in times])
    found, durations, loop = shown(tmp_path / f"a{suffix}", "RGBA" if alpha else "RGB")
    assert (notes, list(durations), loop, len(found)) == ((), times, 0, 4)
    for pixels, frame in zip(found, frames, strict=True):
        if suffix == ".webp":
            drawn = frame[..., :3].any(axis=2)
            assert np.abs(pixels[..., :3].astype(int) - frame[..., :3])[drawn].mean() < 12
            assert not alpha or np.array_equal(pixels[..., 3], frame[..., 3])
        elif alpha:
            assert np.array_equal(visible(pixels), visible(frame))
        else:
            assert np.array_equal(pixels, frame)


def test_apng_holds_16_bits_gray_and_any_time(tmp_path):
    frames = [pattern(channels=1, dtype=np.uint16, seed=seed) for seed in range(3)]
    written(tmp_path / "a.png", frames, [Fraction(1, 3), Fraction(1001, 30000), Fraction(0)], plays=5)
    data = (tmp_path / "a.png").read_bytes()
    controls = [data[at + 4 :][:26] for at in range(len(data)) if data[at : at + 4] == b"fcTL"]
    assert [struct.unpack(">HH", each[20:24]) for each in controls] == [(1, 3), (1001, 30000), (0, 1)]
    with Image.open(tmp_path / "a.png") as file:
        for frame, pixels in zip(ImageSequence.Iterator(file), frames, strict=True):
            assert np.array_equal(np.asarray(frame), pixels)


def test_only_what_changes_is_stored(tmp_path):
    frames = [np.tile(pattern(64, 64), (4, 4, 1)) for _ in range(3)]
    frames[1][9:12, 17:30], frames[2][9:12, 17:30] = 7, 9
    for suffix in (".png", ".webp", ".gif"):
        written(tmp_path / f"one{suffix}", frames[:1], [MS])
        written(tmp_path / f"all{suffix}", frames, [MS * 10] * 3)
        assert (tmp_path / f"all{suffix}").stat().st_size < (tmp_path / f"one{suffix}").stat().st_size + 3000


def test_times_of_gif_and_webp_are_rounded_without_adding_up(tmp_path):
    frames, third = moving(7, alpha=False), Fraction(1, 30)
    notes = written(tmp_path / "a.gif", frames, [third] * 7)
    assert notes == ("GIF holds times in hundredths of a second; those of some frames are rounded",)
    assert shown(tmp_path / "a.gif", "RGB")[1] == (30, 40, 30, 30, 40, 30, 30)
    notes = written(tmp_path / "a.webp", frames, [third] * 7)
    assert notes == ("WebP holds times in milliseconds; those of some frames are rounded",)
    assert sum(shown(tmp_path / "a.webp", "RGB")[1]) == 233


def test_metadata_of_an_animation(tmp_path):
    profile = srgb_profile()
    first = replace(from_array(moving()[0]), icc_profile=profile, exif=exif_block(), comment=b"by hand", xmp=b"<x/>")
    for suffix in (".png", ".webp", ".gif"):
        written(tmp_path / f"a{suffix}", [first, *moving()[1:]], [MS * 50] * 4)
        image = decode(tmp_path / f"a{suffix}")
        assert image.notes[0] == "only the first of 4 frames is used"
        assert (image.icc_profile == profile) == (image.exif is not None) == (suffix != ".gif")
        assert suffix != ".gif" or image.comment == b"by hand"


def test_pages_of_a_tiff(tmp_path):
    """Pages of any size and kind, each with its own metadata; a thumbnail is no page."""
    pages = [pattern(dtype=np.uint16), pattern(20, 30, channels=1), pattern(9, 11, channels=4)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(pages[0], photometric="rgb", resolution=(300, 300), resolutionunit="INCH")
        writer.write(pages[0][::4, ::4], photometric="rgb", subfiletype=1)
        writer.write(pages[1], photometric="minisblack", compression="lzw")
        writer.write(pages[2], photometric="rgb", extrasamples=["unassalpha"])
    facts, images = composed(tmp_path / "a.tif")
    assert (facts.kind, facts.count, facts.word) == ("tiff", 3, "page")
    for image, page in zip(images, pages, strict=True):
        assert np.array_equal(image.channels(), page)
    assert [image.dpi for image in images] == [(300.0, 300.0), None, None]
    images[0] = replace(images[0], exif=exif_block())
    written(tmp_path / "b.tif", images, [Fraction(0)] * 3)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        for page, pixels in zip(file.pages, pages, strict=True):
            assert np.array_equal(page.asarray(), pixels)
    assert decode(tmp_path / "b.tif").exif == decode(_still(tmp_path / "c.tif", images[0])).exif is not None


def _still(path, image):
    encode(image, path)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.webp", "a.tif"])
def test_damaged_frames(tmp_path, name):
    """Cut at any place, a file is refused with its name and frame, or by its first image as a still one is."""
    path = tmp_path / name
    frames = [Image.fromarray(frame) for frame in moving(alpha=False)]
    more = {"compression": "tiff_deflate"} if name == "a.tif" else {"duration": 50}
    frames[0].save(path, save_all=True, append_images=frames[1:], **more)
    data, kind, errors = path.read_bytes(), kind_of(path), []
    assert kind is not None
    for end in range(len(data) - 60, len(data) // 3, -max(1, len(data) // 25)):
        path.write_bytes(data[:end])
        try:
            facts = probe(path, kind, 10**6)
        except ImageError as error:
            errors.append(str(error))
        else:  # a GIF that was cut between two frames
            assert (name, facts.notes) == ("a.gif", ("its end mark is missing; frames may be missing too",))
    assert all(error.startswith(f"{path}: ") for error in errors)
    if name in ("a.png", "a.gif"):  # the others are refused as a whole
        assert any(f"{path}: frame " in error for error in errors)


def test_a_damaged_frame_is_named(tmp_path):
    path = tmp_path / "a.png"
    written(path, moving(alpha=False), [MS * 50] * 4)
    data = path.read_bytes()
    at = data.rindex(b"fdAT")
    size = int.from_bytes(data[at - 4 : at], "big")
    body = bytearray(data[at + 4 : at + 4 + size])
    body[8:20] = bytes(12)
    path.write_bytes(data[: at - 4] + chunk(b"fdAT", bytes(body)) + data[at + 8 + size :])
    with pytest.raises(ImageError, match=r"a\.png: frame 4 of 4: "):
        composed(path)


def test_limits_hold_for_each_frame(tmp_path):
    frames = [Image.fromarray(frame) for frame in moving(alpha=False)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=50)
    with pytest.raises(ImageError, match="more than the limit"):
        probe(tmp_path / "a.gif", "gif", 22 * 31 - 1)
    with pytest.raises(ImageError, match="of memory"):
        probe(tmp_path / "a.gif", "gif", 10**6, max_bytes=1000)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(pattern(10, 10), photometric="rgb")
        writer.write(pattern(200, 200), photometric="rgb")
    with pytest.raises(ImageError, match=r"page 2 of 2: 200×200 is more than the limit"):
        probe(tmp_path / "a.tif", "tiff", 10_000)


def test_frames_beyond_the_screen_of_a_gif_are_cut_off(tmp_path):
    from gankit.images.gif_file import KEEP, TRAILER, header, image_block

    one, two = (from_array(pattern(10, 12, seed=seed) // 100 * 100) for seed in range(2))
    blocks = (image_block(one, hundredths=5, disposal=KEEP), image_block(two, (6, 5), hundredths=5, disposal=KEEP))
    (tmp_path / "a.gif").write_bytes(header(12, 10) + b"".join(blocks) + TRAILER)
    _, images = composed(tmp_path / "a.gif")
    want = one.pixels.copy()
    want[5:, 6:] = two.pixels[:5, :6]
    assert np.array_equal(images[1].pixels, want)


def test_still_files_have_no_frames(tmp_path):
    still = Image.fromarray(pattern())
    for name in ("a.png", "a.gif", "a.webp", "a.tif", "a.jpg", "a.bmp"):
        still.save(tmp_path / name)
        assert kind_of(tmp_path / name) is None
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert kind_of(tmp_path / "a.png") is kind_of(tmp_path / "none.png") is None


def test_which_formats_hold_frames(tmp_path):
    held = {s: format_for("gif", tmp_path / f"a{s}") for s in (".png", ".webp", ".GIF", ".tif", ".jpg", ".bmp", ".x")}
    assert {suffix for suffix, format in held.items() if format} == {".png", ".webp", ".GIF", ".tif"}
    assert format_for("tiff", tmp_path / "a.tiff").name == "tiff"
    assert format_for("tiff", tmp_path / "a.png") is None


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_gif_of_a_still_image(tmp_path, channels):
    image = from_array(pattern(channels=channels) if channels == 1 else pattern(channels=channels) // 64 * 64)
    notes = encode(image, tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as file:
        assert isinstance(file, GifImagePlugin.GifImageFile)
        assert getattr(file, "n_frames", 1) == 1
        pixels = np.asarray(file.convert("RGBA"))
    kept = pixels[..., 3] == 255
    assert np.array_equal(pixels[kept][:, :3], image.pixels[kept])
    assert kept.all() if image.alpha is None else np.array_equal(kept, image.alpha >= 128)
    assert any("transparency" in note for note in notes) == (channels == 4)


def test_gif_of_many_colours_is_near(tmp_path):
    image = from_array(pattern(90, 120))
    notes = encode(image, tmp_path / "a.gif")
    assert notes == ("GIF holds 256 colours in an image; the others are dithered",)
    assert np.abs(decode(tmp_path / "a.gif").pixels.astype(int) - image.pixels).mean() < 12
