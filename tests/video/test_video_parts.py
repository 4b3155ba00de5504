"""The options, the inputs and the times of clips, without PyAV."""

from fractions import Fraction
from itertools import pairwise

import pytest

from gankit.errors import UsageError
from gankit.pipeline.run_options import RunOptions
from gankit.video import VideoOptions
from gankit.video.decode import TimedFrame, at_rate
from gankit.video.inputs import find_clips
from gankit.video.join import decode_times
from gankit.video.segments import WorkFolder


@pytest.mark.parametrize(
    ("given", "rate"),
    [
        (25, Fraction(25)),
        ("30000/1001", Fraction(30000, 1001)),
        (29.97, Fraction(30000, 1001)),
        ("23.98", Fraction(24000, 1001)),
        (23.976, Fraction(24000, 1001)),
        ("59.94", Fraction(60000, 1001)),
        ("12.5", Fraction(25, 2)),
        (24, Fraction(24)),
        (None, None),
    ],
)
def test_frame_rates(given, rate):
    assert VideoOptions(fps=given).rate == rate


@pytest.mark.parametrize(
    "wrong",
    [{"fps": 0}, {"fps": "fast"}, {"fps": "1/0"}, {"fps": 5000}, {"crf": 64}, {"crf": True}, {"codec": ""},
     {"preset": 4}, {"segment": 0}],
)  # fmt: skip
def test_wrong_options(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        VideoOptions(**wrong)


def test_encoders_and_their_options(tmp_path):
    mp4, webm = tmp_path / "a.mp4", tmp_path / "a.WEBM"
    assert VideoOptions().encoder(mp4) == "libx264"
    assert VideoOptions().encoder(webm) == "libvpx-vp9"
    assert VideoOptions(codec="HEVC").encoder(mp4) == "libx265"
    assert VideoOptions().encoder_options(mp4) == {"crf": "17", "preset": "medium"}
    assert VideoOptions(crf=20.5, preset="slow").encoder_options(mp4) == {"crf": "20.5", "preset": "slow"}
    assert VideoOptions(codec="h264_nvenc").encoder_options(mp4) == {}
    assert VideoOptions().of_result() == {}


@pytest.mark.parametrize("order", [[0], [0, 1, 2], [0, 3, 1, 2], [0, 4, 2, 1, 3, 8, 6, 5, 7], [1, 0], [3, 2, 1, 0]])
def test_times_of_decoding(order):
    shown = [index * index + 7 for index in range(len(order))]
    decoded = [shown[index] for index in order]
    dts = decode_times(shown, decoded)
    assert all(first < second for first, second in pairwise(dts))
    assert all(time <= pts for time, pts in zip(dts, decoded, strict=True))
    if order == sorted(order):
        assert dts == shown


def test_a_rate_keeps_the_clip_in_step():
    """A clip of 2 s whose frames come at 0, 0.5 and 1.9 s."""
    frames = [TimedFrame(0, 50, "a"), TimedFrame(50, 140, "b"), TimedFrame(190, 10, "c")]
    made = list(at_rate(frames, Fraction(1, 100), Fraction(10)))
    assert [each.pts for each in made] == list(range(20))
    assert "".join(each.frame for each in made) == "aaaaa" + "b" * 14 + "c"
    assert "".join(each.frame for each in at_rate(frames, Fraction(1, 100), Fraction(1))) == "ab"


def test_sources_in_code_are_no_clips(tmp_path):
    (tmp_path / "a.ts").write_text("export const answer = 42")
    (tmp_path / "b.ts").write_bytes(b"\x47\x40\x11\x10" * 47)
    (tmp_path / "c.m2ts").write_bytes(b"0123\x47")
    clips = find_clips([tmp_path], None, RunOptions(), "_x2")
    assert clips.found is not None
    assert [job.source.name for job in clips.found.jobs] == ["b.ts", "c.m2ts"]
    assert [job.target.name for job in clips.found.jobs] == ["b.mkv", "c.mkv"]
    (tmp_path / "b.ts").unlink()
    (tmp_path / "c.m2ts").unlink()
    assert find_clips([tmp_path], None, RunOptions(), "_x2").found is None


def test_results_of_one_name(tmp_path):
    for name in ("a.wmv", "a.mkv", "a.mp4"):
        (tmp_path / name).touch()
    found = find_clips([tmp_path], tmp_path / "out", RunOptions(), "").found
    assert [job.target.name for job in found.jobs] == ["a.mkv", "a.mp4", "a_wmv.mkv"]


def test_a_file_as_output_takes_one_clip(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match="names a file, but there are 2 inputs"):
        find_clips([tmp_path / "a.mp4", tmp_path / "b.mp4"], tmp_path / "c.mp4", RunOptions(), "")
    (tmp_path / "folder.mp4").mkdir()
    found = find_clips([tmp_path / "a.mp4"], tmp_path / "folder.mp4", RunOptions(), "").found
    assert found.jobs[0].target == tmp_path / "folder.mp4" / "a.mp4"


def test_the_folder_of_segments_has_a_short_name(tmp_path):
    folder = WorkFolder(tmp_path / ("a" * 250 + ".mp4")).folder
    assert folder.parent == tmp_path
    assert len(folder.name) < 40
