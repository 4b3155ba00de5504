"""Animated AVIF: read and written frame by frame; Pillow and FFmpeg's demuxer check what is written."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from images_making import exif_block, pattern, srgb_profile
from PIL import Image, ImageSequence

from gankit.errors import ImageError, ImageMemoryError
from gankit.images import decode, from_array
from gankit.images.avif_boxes import durations, plays, with_plays
from gankit.images.encode import fitting
from gankit.images.formats import writer_of
from gankit.images.frames import FrameFacts, distinct_frames, format_for, frame_writer, kind_of, probe

MS = Fraction(1, 1000)
TIMES = [40, 15, 2500, 70]


def frames(count=4, channels=3):
    """Smooth frames, each with a lighter square in another place."""
    made = []
    for index in range(count):
        pixels = np.atleast_3d(pattern(48, 64, channels)) // 2
        pixels[8 + 4 * index : 24 + 4 * index, 8 * index : 8 * index + 16] += 100
        made.append(pixels.squeeze())
    return made


def by_pillow(path, made, **options):
    images = [Image.fromarray(frame) for frame in made]
    images[0].save(path, save_all=True, append_images=images[1:], duration=TIMES, **{"quality": 100, **options})
    return path


def written(path, images, seconds, repeats=0):
    facts = FrameFacts(
        path, "gif", tuple(seconds), (1,) * len(images), repeats, images[0].alpha is not None, images[0].gray
    )
    format = writer_of(".avif")
    with path.open("x+b") as file:
        writer = frame_writer(format, file, facts, 100)
        for image, duration in zip(images, seconds, strict=True):
            writer.add(fitting(image, format)[0], duration)
        return writer.finish()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_frames_are_read_as_pillow_reads_them(tmp_path, channels):
    path = by_pillow(tmp_path / "a.avif", frames(channels=channels), subsampling="4:4:4" if channels > 1 else "4:0:0")
    assert kind_of(path) == "avif"
    assert format_for("avif", path).name == "avif"
    facts = probe(path, "avif", 10**6)
    assert (facts.count, facts.runs, facts.plays, facts.alpha) == (4, (1, 1, 1, 1), 0, channels == 4)
    assert [time / MS for time in facts.seconds] == TIMES
    with Image.open(path) as file:
        wanted = [np.asarray(frame) for frame in ImageSequence.Iterator(file)]
    for frame, want in zip(distinct_frames(facts, 10**6), wanted, strict=True):
        np.testing.assert_array_equal(frame.channels(), want if channels > 1 else np.atleast_3d(want).squeeze())
    assert decode(path).notes == ("only the first of 4 frames is used",)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("repeats", [0, 1, 3])
def test_frames_are_written_with_times_and_metadata(tmp_path, channels, repeats):
    images = [from_array(frame) for frame in frames(channels=channels)]
    profile = srgb_profile() if channels > 1 else None
    images = [replace(image, icc_profile=profile, exif=exif_block()) for image in images]
    assert written(tmp_path / "a.avif", images, [MS * time for time in TIMES], repeats) == ()
    with Image.open(tmp_path / "a.avif") as file:
        assert (file.n_frames, file.info.get("icc_profile")) == (4, profile)
        assert file.getexif()[0x010F] == "Gankit Camera"
        for frame, image, time in zip(ImageSequence.Iterator(file), images, TIMES, strict=True):
            frame.load()
            assert frame.info["duration"] == time
            shown = np.asarray(frame.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])).astype(int)
            assert np.abs(shown - image.channels()).mean() < 2
    assert plays((tmp_path / "a.avif").read_bytes()) == repeats
    assert probe(tmp_path / "a.avif", "avif", 10**6).plays == repeats


def test_ffmpeg_reads_what_is_written(tmp_path):
    av = pytest.importorskip("av")
    written(tmp_path / "a.avif", [from_array(frame) for frame in frames()], [MS * time for time in TIMES], 3)
    with av.open(str(tmp_path / "a.avif")) as file:
        stream = max(file.streams.video, key=lambda stream: stream.frames)  # the first one is the still image
        packets = [packet for packet in file.demux(stream) if packet.size]
        assert [packet.duration * packet.time_base / MS for packet in packets[:3]] == TIMES[:3]
        assert (stream.codec_context.width, stream.codec_context.height) == (64, 48)


def test_times_are_rounded_without_adding_up(tmp_path):
    images = [from_array(frame) for frame in frames()]
    notes = written(tmp_path / "a.avif", images, [Fraction(1, 30)] * 4)
    assert notes == ("AVIF holds times in milliseconds, at least one; those of some frames are rounded",)
    assert sum(durations((tmp_path / "a.avif").read_bytes())) == Fraction(133, 1000)


def test_equal_frames_stay_frames_of_their_own(tmp_path):
    images = [from_array(frame) for frame in frames()]
    order = [images[0], images[0], images[1]]
    written(tmp_path / "a.avif", order, [MS * 40] * 3)
    facts = probe(tmp_path / "a.avif", "avif", 10**6)
    assert facts.count == 3


def test_times_that_pillow_rounds_are_read_exactly(tmp_path):
    path = by_pillow(tmp_path / "a.avif", frames())
    data = path.read_bytes().replace(b"\0\0\x03\xe8", b"\0\0\x75\x30")  # 30 000 ticks a second in place of 1000
    assert durations(data) == tuple(Fraction(time, 30000) for time in TIMES)


def test_still_images_and_damaged_ones(tmp_path):
    Image.fromarray(frames()[0]).save(tmp_path / "still.avif")
    assert kind_of(tmp_path / "still.avif") is None
    assert durations((tmp_path / "still.avif").read_bytes()) == ()
    assert plays((tmp_path / "still.avif").read_bytes()) == 0
    data = by_pillow(tmp_path / "a.avif", frames()).read_bytes()
    (tmp_path / "cut.avif").write_bytes(data[:-300])
    with pytest.raises(ImageError, match=r"cut\.avif: "):
        probe(tmp_path / "cut.avif", "avif", 10**6)
    for end in range(0, len(data) // 2, 37):
        durations(data[:end])
        plays(data[:end])
    for place in range(0, 1200, 3):
        changed = data[:place] + b"\xff" + data[place + 1 :]
        durations(changed)
        plays(changed)
    assert plays(with_plays(data, 5)) == 5


def test_a_file_larger_than_the_memory_is_not_read(tmp_path):
    path = by_pillow(tmp_path / "a.avif", frames())
    with pytest.raises(ImageMemoryError, match=r"the file takes 0 MB of memory, and 0 MB may be used"):
        probe(path, "avif", 10**6, 1000)
    with pytest.raises(ImageMemoryError, match="the file takes"):
        decode(path, max_bytes=1000)


def deep(path, bits, channels=3, count=5):
    """Frames of more than 8 bits, each a step brighter; and their samples."""
    imagecodecs = pytest.importorskip("imagecodecs")
    most = 2**bits - 1
    ramp = np.linspace(0, most - 3 * count, 24 * 32 * channels).reshape(24, 32, channels)
    samples = np.stack([ramp + 3 * index for index in range(count)]).astype(np.uint16)
    path.write_bytes(imagecodecs.avif_encode(samples, level=100, bitspersample=bits, pixelformat="444"))
    return samples


@pytest.mark.parametrize(("bits", "channels"), [(10, 3), (12, 3), (10, 4)])
def test_frames_of_more_than_8_bits_keep_them(tmp_path, bits, channels):
    samples = deep(tmp_path / "a.avif", bits, channels)
    facts = probe(tmp_path / "a.avif", "avif", 10**6, 10**9)
    assert (facts.count, facts.runs, facts.notes, facts.deep) == (5, (1,) * 5, (), True)
    for frame, wanted in zip(distinct_frames(facts, 10**6, 10**9), samples, strict=True):
        assert frame.pixels.dtype == np.uint16
        most = 2**bits - 1  # the colours of the file are YCbCr, and so rounded once more
        np.testing.assert_allclose(frame.channels(), wanted * (65535 / most), atol=1.51 * 65535 / most)
    first = decode(tmp_path / "a.avif")
    assert first.notes == ("only the first of 5 frames is used",)
    np.testing.assert_allclose(first.channels(), samples[0] * (65535 / most), atol=1.51 * 65535 / most)


def test_frames_of_more_than_8_bits_that_take_much_memory(tmp_path):
    deep(tmp_path / "a.avif", 10)
    facts = probe(tmp_path / "a.avif", "avif", 10**6, 120_000)
    assert not facts.deep
    [note] = facts.notes
    assert note.startswith("its frames are read with 8 bits, not 10, because with all bits they take ")
    assert [frame.pixels.dtype for frame in distinct_frames(facts, 10**6, 10**9)] == [np.uint8] * 5


def test_a_damaged_frame_of_more_than_8_bits_is_named(tmp_path):
    deep(tmp_path / "a.avif", 10)
    data = (tmp_path / "a.avif").read_bytes()
    (tmp_path / "a.avif").write_bytes(data[:-50] + bytes(50))
    with pytest.raises(ImageError, match=r"a\.avif: frame \d of 5: "):
        probe(tmp_path / "a.avif", "avif", 10**6, 10**9)
