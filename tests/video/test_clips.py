"""What is in the result of a clip: pixels, times, colours, sound, subtitles."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

av = pytest.importorskip("av", reason="clips need PyAV: pip install 'gankit[video]'")

from video_making import HEIGHT, WIDTH, packets, pattern, read_frames, times, write_clip  # noqa: E402

from gankit.video import VideoOptions, run_files  # noqa: E402

LOSSLESS = VideoOptions(crf=0, preset="ultrafast")


def run(upscaler, clip, video=LOSSLESS, **options):
    """The report of a clip and the file of the result."""
    [report] = run_files(upscaler, clip, clip.parent / "out", video=video, **options).images
    assert report.status == "done", report.error
    return report, report.target


def planes(frame):
    """Luma and both colour differences, as they are stored."""
    kinds = frame.format.components
    deep = np.uint16 if kinds[0].bits > 8 else np.uint8
    found = []
    for plane, kind in zip(frame.planes, kinds, strict=True):
        rows = np.frombuffer(plane, deep).reshape(plane.height, -1)
        found.append(rows[: kind.height, : kind.width].astype(int))
    return found


def rgb(frame, kr, kb, full=False):
    """The colours of a 4:4:4 frame, straight from the definition (ITU-T H.273)."""
    bits = frame.format.components[0].bits
    unit = 2 ** (bits - 8)
    y, cb, cr = planes(frame)
    if full:
        top = 2**bits - 1
        y, cb, cr = y / top, (cb - 128 * unit) / top, (cr - 128 * unit) / top
    else:
        y, cb, cr = (y / unit - 16) / 219, (cb / unit - 128) / 224, (cr / unit - 128) / 224
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.stack([red, green, blue], axis=-1).clip(0, 1)


def grown(array):
    return array.repeat(2, axis=0).repeat(2, axis=1)


@pytest.mark.parametrize(
    ("matrix", "kr", "kb", "range_"), [(1, 0.2126, 0.0722, 1), (6, 0.299, 0.114, 1), (1, 0.2126, 0.0722, 2)]
)
def test_the_colours_are_those_of_the_frames(matrix, kr, kb, range_, upscaler, engine, tmp_path):
    """The engine sees the colours that the tags define, and the result shows those of the engine."""
    tags = {"colorspace": matrix, "color_range": range_, "color_primaries": 1, "color_trc": 13}
    clip = write_clip(tmp_path / "a.mp4", 5, pixel_format="yuv444p", colours=tags)
    report, target = run(upscaler, clip)
    sources, results = read_frames(clip), read_frames(target)
    assert len(results) == len(engine.frames) == 5
    assert (report.input_size, report.output_size) == ((WIDTH, HEIGHT), (2 * WIDTH, 2 * HEIGHT))
    for source, seen, result in zip(sources, engine.frames, results, strict=True):
        wanted = rgb(source, kr, kb, range_ == 2) * 255
        assert np.abs(seen - wanted).max() <= 1.01
        assert result.format.name.replace("yuvj", "yuv") == "yuv444p"
        assert np.abs(rgb(result, kr, kb, range_ == 2) * 255 - grown(seen)).max() <= 3
        assert (result.colorspace, result.color_range, result.color_primaries, result.color_trc) == (
            matrix, range_, 1, 13
        )  # fmt: skip


def test_rgb_stays_what_it_is(upscaler, tmp_path):
    """FFV1 in RGB has no conversion, so the frames are those of the plain path."""
    clip = write_clip(tmp_path / "a.mkv", 6, codec="ffv1", pixel_format="bgr0", options={"crf": "", "preset": ""})
    _, target = run(upscaler, clip, VideoOptions(codec="ffv1"))
    for source, result in zip(read_frames(clip), read_frames(target), strict=True):
        plain = upscaler(source.to_ndarray(format="rgb24"))
        assert np.array_equal(result.to_ndarray(format="rgb24"), plain)


def test_a_usual_clip_stays_close(upscaler, tmp_path):
    """4:2:0 has half the resolution in colour; luma is what the engine made."""
    clip = write_clip(tmp_path / "a.mp4", 4)
    _, target = run(upscaler, clip)
    for source, result in zip(read_frames(clip), read_frames(target), strict=True):
        assert result.format.name == "yuv420p"
        before, after = planes(source)[0], planes(result)[0]
        assert np.abs(grown(before) - after).mean() < 1


def test_ten_bits_come_out_as_ten(upscaler, engine, tmp_path):
    """PQ stays PQ, and levels between those of 8 bits arrive."""
    ramp = np.linspace(4000, 60000, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH, 1).repeat(3, axis=2).astype(np.uint16)
    tags = {"colorspace": 9, "color_range": 1, "color_primaries": 9, "color_trc": 16}
    clip = write_clip(
        tmp_path / "a.mkv", images=[ramp, ramp[::-1].copy()], codec="ffv1", pixel_format="yuv444p10le", colours=tags,
        options={"crf": "", "preset": ""},
    )  # fmt: skip
    _, target = run(upscaler, clip, VideoOptions(codec="ffv1"))
    assert {frame.dtype for frame in engine.frames} == {np.dtype(np.uint16)}
    for source, result in zip(read_frames(clip), read_frames(target), strict=True):
        assert result.format.name == "yuv444p10le"
        assert (result.colorspace, result.color_primaries, result.color_trc) == (9, 9, 16)
        assert np.abs(grown(planes(source)[0]) - planes(result)[0]).max() <= 1
        assert len(np.unique(planes(result)[0])) > 500


def test_ten_bits_in_a_usual_clip(upscaler, tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 3, pixel_format="yuv420p10le", options={"crf": "4"})
    report, target = run(upscaler, clip, VideoOptions(crf=4, preset="ultrafast"))
    assert {frame.format.name for frame in read_frames(target)} == {"yuv420p10le"}
    assert report.video.pixel_format == "yuv420p10le"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_a_variable_rate_is_kept(suffix, upscaler, tmp_path):
    ticks = [0, 20, 61, 62, 100, 230, 231, 260, 300, 420]
    clip = write_clip(tmp_path / f"a{suffix}", pts=ticks, images=[pattern(index) for index in range(len(ticks))])
    report, target = run(upscaler, clip, VideoOptions(crf=20, preset="medium", segment=4))  # with B-frames
    assert times(target) == times(clip)
    assert report.video.frames == 10
    with av.open(str(clip)) as source, av.open(str(target)) as result:
        assert result.streams.video[0].time_base == source.streams.video[0].time_base
        packets = [packet for packet in result.demux(video=0) if packet.size]
    if suffix != ".mkv":  # which stores no times of decoding
        assert all(packet.dts <= packet.pts for packet in packets)
        assert all(first.dts < second.dts for first, second in pairwise(packets))


def test_sound_begins_when_it_did(upscaler, tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 12, sound=0.3)
    _, target = run(upscaler, clip)
    assert packets(target) == packets(clip)
    assert float(packets(target)[1][0]) == pytest.approx(0.3, abs=0.001)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_subtitles_titles_and_chapters_are_kept(suffix, upscaler, tmp_path):
    chapter = {"id": 1, "start": 0, "end": 240, "time_base": Fraction(1, 1000), "metadata": {"title": "Beginning"}}
    said = [(100, 200, "Hello"), (240, 400, "Goodbye")]
    clip = write_clip(
        tmp_path / f"a{suffix}", 12, subtitles=said, metadata={"title": "A clip"}, chapters=[chapter], sound=0
    )
    _, target = run(upscaler, clip)
    own = [packet for packet in packets(clip, "subtitles") if packet[1].strip(b"\0")]
    assert [packet for packet in packets(target, "subtitles") if packet[1].strip(b"\0")] == own
    assert len(own) == 2
    with av.open(str(target)) as result:
        assert result.metadata["title"] == "A clip"
        assert result.chapters()[0]["metadata"]["title"] == "Beginning"
        assert result.chapters()[0]["end"] * result.chapters()[0]["time_base"] == Fraction(240, 1000)
    _, target = run(upscaler, clip, strip_metadata=True)
    with av.open(str(target)) as result:
        assert "title" not in result.metadata
        assert result.chapters() == []


def test_an_attachment_is_kept(upscaler, tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 3, attachment=("font.ttf", "application/x-truetype-font", b"glyphs" * 9))
    _, target = run(upscaler, clip)
    with av.open(str(target)) as result:
        [font] = [stream for stream in result.streams if stream.type == "attachment"]
        assert bytes(font.data) == b"glyphs" * 9
        assert font.name == "font.ttf"


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (-90, 3), (180, 2)])
def test_a_rotated_clip_is_turned(degrees, turns, upscaler, engine, tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 2, pixel_format="yuv444p", rotation=degrees, aspect=Fraction(4, 3))
    stored = read_frames(clip)[0]
    assert stored.rotation % 360 == degrees % 360
    report, target = run(upscaler, clip)
    assert np.array_equal(engine.frames[0], np.rot90(rgb_like(engine, stored), turns))
    result = read_frames(target)[0]
    assert result.rotation == 0
    side = (WIDTH, HEIGHT) if turns == 2 else (HEIGHT, WIDTH)
    assert report.input_size == side
    assert (result.width, result.height) == (2 * side[0], 2 * side[1])
    with av.open(str(target)) as container:
        wanted = Fraction(4, 3) if turns == 2 else Fraction(3, 4)
        assert container.streams.video[0].sample_aspect_ratio == wanted


def rgb_like(engine, frame):
    from gankit.video.colour import Colours, Converter

    return Converter(Colours.of(frame).stated(frame.width, frame.height, rgb=False), "a.mp4").to_rgb(frame)


def test_odd_sizes(upscaler, tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 3, pixel_format="yuv444p", size=(51, 37))
    report, target = run(upscaler, clip, scale=1.0)
    assert (read_frames(target)[0].width, read_frames(target)[0].height) == (51, 37)
    clip = write_clip(tmp_path / "b.mkv", 3, codec="ffv1", size=(51, 37), options={"crf": "", "preset": ""})
    report, target = run(upscaler, clip, scale=1.0)
    assert report.output_size == (52, 38)
    assert any("even sizes" in note for note in report.notes)
    luma = planes(read_frames(target)[0])[0]
    assert np.array_equal(luma[:, 50], luma[:, 51])
    assert np.array_equal(luma[36], luma[37])


def test_a_clip_without_tags_says_by_which_matrix_it_was_made(upscaler, tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 2)
    assert read_frames(clip)[0].colorspace == 2
    _, target = run(upscaler, clip)
    frame = read_frames(target)[0]
    assert (frame.colorspace, frame.color_range) == (6, 1)


@pytest.mark.parametrize(
    ("codec", "suffix"), [("hevc", ".mp4"), ("av1", ".mkv"), ("vp9", ".webm"), (None, ".webm"), ("ffv1", ".mkv")]
)
def test_other_codecs(codec, suffix, upscaler, tmp_path, capfd):
    clip = write_clip(tmp_path / "a.mkv", 5)
    preset = {"hevc": "ultrafast", "av1": "12"}.get(codec)
    target = tmp_path / f"b{suffix}"
    [report] = run_files(upscaler, clip, target, video=VideoOptions(codec=codec, preset=preset, segment=3)).images
    assert (report.status, report.error) == ("done", None)
    assert times(target) == times(clip)
    assert capfd.readouterr().err == ""


def test_fps_repeats_and_leaves_out(upscaler, engine, tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 10)  # 25 frames per second
    report, target = run(upscaler, clip, VideoOptions(crf=0, preset="ultrafast", fps=50))
    assert times(target) == [Fraction(index, 50) for index in range(20)]
    assert (report.video.frames, report.video.computed_frames, len(engine.frames)) == (20, 10, 10)
    report, target = run(upscaler, clip, VideoOptions(crf=0, preset="ultrafast", fps="12.5"))
    assert times(target) == [Fraction(2 * index, 25) for index in range(5)]
    assert len(engine.frames) == 15


def test_a_still_scene_is_computed_once(upscaler, engine, tmp_path):
    still = pattern(0)
    images = [pattern(1), *[still] * 8, pattern(2), still]
    clip = write_clip(tmp_path / "a.mkv", images=images, codec="ffv1", pixel_format="bgr0",
                      options={"crf": "", "preset": ""})  # fmt: skip
    report, target = run(upscaler, clip, VideoOptions(codec="ffv1"))
    assert len(engine.frames) == 4
    assert (report.video.frames, report.video.computed_frames) == (11, 4)
    made = [frame.to_ndarray(format="rgb24") for frame in read_frames(target)]
    assert all(np.array_equal(grown(image), result) for image, result in zip(images, made, strict=True))


def test_what_hdr10_says_of_its_display_is_named(upscaler, tmp_path):
    display = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400"
    clip = write_clip(
        tmp_path / "a.mkv", 3, codec="libx265", pixel_format="yuv420p10le",
        colours={"colorspace": 9, "color_range": 1, "color_primaries": 9, "color_trc": 16},
        options={"crf": "20", "x265-params": f"log-level=none:hdr10=1:{display}"},
    )  # fmt: skip
    report, target = run(upscaler, clip, VideoOptions(crf=20, preset="ultrafast"))
    assert [note for note in report.notes if "HDR10" in note] == [
        "its description of the mastering display (HDR10) is not kept", "its light level (HDR10) is not kept",
    ]  # fmt: skip
    frame = read_frames(target)[0]
    assert (frame.format.name, frame.color_trc, frame.color_primaries, frame.colorspace) == ("yuv420p10le", 16, 9, 9)
