"""Runs over clips: folders, what is there already, interruptions, broken files, the command line."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

av = pytest.importorskip("av", reason="clips need PyAV: pip install 'gankit[video]'")

from video_making import pattern, read_frames, times, write_clip  # noqa: E402

import gankit  # noqa: E402
from gankit.cli import main  # noqa: E402
from gankit.errors import OutputError, UsageError  # noqa: E402
from gankit.video import VideoOptions, plan_files, run_files  # noqa: E402
from gankit.video.segments import WorkFolder  # noqa: E402

QUICK = VideoOptions(crf=0, preset="ultrafast", segment=5)


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "a.mp4", 18, sound=0.3)


def contents(path):
    """Everything in a file that a player sees."""
    with av.open(str(path)) as container:
        return [(each.stream_index, each.pts, each.dts, bytes(each)) for each in container.demux() if each.size]


def hidden(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".gankit-")]


def test_a_run_that_was_interrupted_continues_after_the_last_whole_segment(upscaler, engine, clip, tmp_path):
    [whole] = run_files(upscaler, clip, tmp_path / "whole.mp4", video=QUICK).images
    assert whole.status == "done"
    engine.frames.clear()
    engine.fail_after = 13  # in the third segment
    with pytest.raises(KeyboardInterrupt):
        run_files(upscaler, clip, tmp_path / "b.mp4", video=QUICK)
    assert [image.status for image in upscaler.report.images] == ["left"]
    assert not (tmp_path / "b.mp4").exists()
    work = WorkFolder(tmp_path / "b.mp4")
    kept = sum(len(segment.frames) for segment in work.segments())
    assert kept == 10
    engine.frames.clear()
    engine.fail_after = None
    [report] = run_files(upscaler, clip, tmp_path / "b.mp4", video=QUICK).images
    assert len(engine.frames) == 18 - kept
    assert (report.video.frames, report.video.computed_frames, report.video.resumed_frames) == (18, 18, kept)
    assert contents(tmp_path / "b.mp4") == contents(tmp_path / "whole.mp4")
    assert hidden(tmp_path) == []


def test_whole_segments_survive(upscaler, engine, clip, tmp_path, monkeypatch):
    """A run that ends while the segments are joined computes nothing again."""
    import gankit.video.join

    def ended(*_, **__):
        raise KeyboardInterrupt

    joined = gankit.video.join.join
    monkeypatch.setattr(gankit.video.join, "join", ended)
    with pytest.raises(KeyboardInterrupt):
        run_files(upscaler, clip, tmp_path / "b.mp4", video=QUICK)
    monkeypatch.setattr(gankit.video.join, "join", joined)
    assert len(engine.frames) == 18
    [report] = run_files(upscaler, clip, tmp_path / "b.mp4", video=QUICK).images
    assert len(engine.frames) == 18
    assert report.video.resumed_frames == 18
    assert times(tmp_path / "b.mp4") == times(clip)


@pytest.mark.parametrize("change", ["source", "option", "damage"])
def test_segments_of_something_else_are_not_used(change, upscaler, engine, clip, tmp_path):
    engine.error = MemoryError
    engine.fail_after = 12
    run_files(upscaler, clip, tmp_path / "b.mp4", video=QUICK)
    work = WorkFolder(tmp_path / "b.mp4")
    assert len(work.segments()) == 2
    engine.fail_after = None
    engine.frames.clear()
    video = QUICK
    if change == "source":
        write_clip(clip, images=[pattern(index + 3) for index in range(18)])
    elif change == "option":
        video = VideoOptions(crf=4, preset="ultrafast", segment=5)
    else:
        first = sorted(work.folder.glob("*.segment"))[0]
        first.write_bytes(first.read_bytes()[:-1])
    [report] = run_files(upscaler, clip, tmp_path / "b.mp4", video=video).images
    assert (report.status, len(engine.frames), report.video.resumed_frames) == ("done", 18, 0)


def test_a_result_that_is_up_to_date_is_skipped(upscaler, engine, clip):
    assert run_files(upscaler, clip, video=QUICK).totals.done == 1
    count = len(engine.frames)
    assert run_files(upscaler, clip, video=QUICK).totals.skipped == 1
    assert len(engine.frames) == count
    report = run_files(upscaler, clip, video=VideoOptions(crf=1, preset="ultrafast"))
    assert [image.again for image in report.images] == ["option"]


def test_a_file_of_the_user_is_kept(upscaler, clip, tmp_path):
    other = write_clip(tmp_path / "a_x2.mp4", 2)
    before = other.read_bytes()
    assert run_files(upscaler, clip, video=QUICK).totals.kept == 1
    assert other.read_bytes() == before
    assert run_files(upscaler, clip, video=QUICK, overwrite=True).totals.done == 1


def test_another_run_on_the_same_result_is_refused(upscaler, clip, tmp_path):
    with WorkFolder(tmp_path / "b.mp4").locked(), pytest.raises(OutputError, match="another run"):
        run_files(upscaler, clip, tmp_path / "b.mp4", video=QUICK)


def test_a_link_in_place_of_the_segments_is_not_followed(upscaler, clip, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    WorkFolder(tmp_path / "b.mp4").folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="is a link"):
        run_files(upscaler, clip, tmp_path / "b.mp4", video=QUICK)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.fixture
def mixed(tmp_path):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    write_clip(folder / "a.mp4", 3)
    write_clip(folder / "sub" / "b.avi", 3, codec="mpeg4", options={"crf": "", "preset": ""})
    Image.fromarray(pattern(0)).save(folder / "c.png")
    (folder / "notes.txt").write_text("text")
    return folder


def test_a_folder_holds_images_and_clips(upscaler, engine, lines, mixed, tmp_path):
    planned = [decision.job.target.name for decision in plan_files(upscaler, mixed, tmp_path / "out")]
    report = run_files(upscaler, mixed, tmp_path / "out", video=QUICK)
    made = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert [name for name in made if "/." not in name and name[0] != "."] == ["a.mp4", "c.png", "sub/b.mkv"]
    assert sorted(planned) == ["a.mp4", "b.mkv", "c.png"]
    assert (report.totals.done, report.totals.ignored, report.totals.failed) == (3, 1, 0)
    assert len(engine.frames) == 7
    assert report is upscaler.report
    assert report.totals.output_mp == pytest.approx(7 * 128 * 96 / 1e6)
    report = run_files(upscaler, mixed, tmp_path / "out", video=QUICK)
    assert (report.totals.skipped, report.totals.done) == (3, 0)
    lines.clear()
    report = run_files(upscaler, mixed, video=QUICK)
    assert sum("writing to" in line for line in lines) == 1
    assert (tmp_path / "in_x2" / "sub" / "b.mkv").exists()


def test_a_folder_of_clips_only(upscaler, mixed):
    (mixed / "c.png").unlink()
    report = run_files(upscaler, mixed, video=QUICK)
    assert (report.totals.done, report.totals.ignored) == (2, 1)


def test_without_pyav_one_line_says_what_to_install(upscaler, lines, mixed, tmp_path, monkeypatch):
    monkeypatch.setattr("gankit.video.inputs.is_installed", lambda: False)
    with pytest.raises(UsageError, match=r"a\.mp4: clips need PyAV: pip install 'gankit\[video\]'"):
        run_files(upscaler, mixed / "a.mp4")
    report = run_files(upscaler, mixed, tmp_path / "out")
    assert report.totals.done == 1
    assert any("1 more clips are not processed: clips need PyAV" in line for line in lines)


def damaged(kind, tmp_path):
    path = tmp_path / f"bad.{'mkv' if kind in ('cut', 'sound') else 'mp4'}"
    if kind == "text":
        path.write_text("no video")
    elif kind == "empty":
        path.touch()
    elif kind == "sound":
        with av.open(str(path), "w") as container:
            from video_making import _write_tone

            _write_tone(container, container.add_stream("aac", rate=48000), 0)
    elif kind == "cut":
        write_clip(path, 30)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "index first":
        write_clip(path, 30, container_options={"movflags": "faststart"})
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "index last":
        write_clip(path, 30)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:  # noise in the middle
        write_clip(path, 30)
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle - 9000 : middle] = os.urandom(9000)
        path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("text", "cannot be read as a video"),
        ("empty", "cannot be read as a video"),
        ("sound", "holds no video"),
        ("cut", "the file is incomplete"),
        ("index first", "the file is incomplete"),
        ("index last", ""),
        ("noise", "cannot be decoded after"),
    ],
)
def test_a_broken_clip_is_one_line_and_the_others_go_on(kind, reason, upscaler, tmp_path):
    path, good = damaged(kind, tmp_path), write_clip(tmp_path / "good.mp4", 3)
    report = run_files(upscaler, [path, good], tmp_path / "out", video=QUICK)
    assert [image.status for image in report.images] == ["failed", "done"]
    error = report.images[0].error
    assert error.startswith(f"{path}: ")
    assert reason in error
    assert "\n" not in error
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".gankit.jsonl", "good.mp4"]


@pytest.mark.parametrize(
    ("target", "video", "message"),
    [
        ("b.webm", {"codec": "libx264"}, "cannot hold video of libx264"),
        ("b.mp4", {"codec": "prores_ks"}, "cannot hold video of prores_ks"),
        ("b.mp4", {"codec": "x264"}, "did you mean 'libx264'"),
        ("b.mp4", {"codec": "aac"}, "no video encoder"),
        ("b.avi", {}, "clips are written as"),
    ],
)
def test_what_cannot_be_written_is_said_before_the_work(target, video, message, upscaler, engine, clip, tmp_path):
    with pytest.raises(UsageError, match=message):
        run_files(upscaler, clip, tmp_path / target, video=VideoOptions(**video))
    assert engine.frames == []


def test_an_option_that_the_encoder_refuses(upscaler, engine, clip, tmp_path):
    [report] = run_files(upscaler, clip, tmp_path / "b.mp4", video=VideoOptions(preset="hasty")).images
    assert report.status == "failed"
    assert "b.mp4: cannot be written" in report.error
    assert engine.frames == []


def test_a_clip_is_not_its_own_result(upscaler, clip):
    with pytest.raises(UsageError, match="would replace it"):
        run_files(upscaler, clip, clip, video=QUICK)


def test_large_frames_are_refused(upscaler, clip):
    [report] = run_files(upscaler, clip, video=QUICK, max_pixels=1000).images
    assert "use a larger --max-pixels" in report.error


def test_the_command(engine, clip, tmp_path, capsys):
    report = tmp_path / "report.json"
    arguments = ["upscale", str(clip), "-o", str(tmp_path / "b.mp4"), "--crf", "4", "--preset", "fast", "--fps", "12.5"]
    assert main([*arguments, "--dry-run"]) == 0
    assert capsys.readouterr().out == f"{clip} -> {tmp_path / 'b.mp4'}\n"
    assert main([*arguments, "--report", str(report)]) == 0
    assert len(read_frames(tmp_path / "b.mp4")) == 9
    [image] = json.loads(report.read_text())["images"]
    assert image["video"]["frames"] == image["video"]["computed_frames"] == 9
    assert image["video"]["seconds"] > 0
    assert image["video"]["codec"] == "libx264"
    assert "1 done" in capsys.readouterr().out
    assert main(["upscale", str(clip), "--fps", "fast"]) == 2
    assert "fps must be a number" in capsys.readouterr().err


def test_progress_counts_frames(upscaler, clip):
    states = []
    run_files(upscaler, clip, video=QUICK, progress=states.append)
    assert [state.done for state in states] == list(range(1, 19))
    assert {state.total for state in states} == {18}
    assert states[-1].frames_per_second > 0


def test_one_frame_at_a_time_if_memory_is_short(upscaler, clip, tmp_path, monkeypatch):
    monkeypatch.setattr("gankit.video.making.thread_counts", lambda limit: {"max_bytes": 1})
    [report] = run_files(upscaler, clip, tmp_path / "b.mp4", video=QUICK).images
    assert report.video.frames == 18


def test_frames_in_flight_are_bounded(upscaler, engine, clip, tmp_path, monkeypatch):
    """A slow encoder holds back the decoder: the engine sees no more than the queue holds."""
    from gankit.video.encode import SegmentEncoder

    ahead, add = [], SegmentEncoder.add

    def slow(self, pixels, pts):
        time.sleep(0.01)
        add(self, pixels, pts)
        ahead.append(len(engine.frames) - len(ahead))

    frame = 64 * 48 * 3 * 5
    monkeypatch.setattr("gankit.video.making.thread_counts", lambda limit: {"max_bytes": 4 * frame})
    monkeypatch.setattr(SegmentEncoder, "add", slow)
    run_files(upscaler, clip, tmp_path / "b.mp4", video=QUICK)
    assert len(ahead) == 18
    assert max(ahead) <= 4


def test_a_full_disk_ends_the_run(upscaler, clip, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(WorkFolder, "_path", full)
    with pytest.raises(OutputError, match=r"b\.mp4: cannot be written: no space left"):
        run_files(upscaler, clip, tmp_path / "b.mp4", video=QUICK)
    assert not (tmp_path / "b.mp4").exists()


@pytest.mark.slow
def test_a_killed_run_continues(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", images=[pattern(index, 16, 16) for index in range(600)], size=(16, 16))
    script = Path(__file__).parents[1] / "cli" / "cli_fakes.py"
    command = [sys.executable, str(script), "0.005", "upscale", str(clip), "--report", str(tmp_path / "report.json")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        first = WorkFolder(tmp_path / "a_x4.mp4").folder / "000000.segment"
        while not first.exists() and process.poll() is None:
            time.sleep(0.02)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    subprocess.run(command, check=True, capture_output=True)
    [image] = json.loads((tmp_path / "report.json").read_text())["images"]
    assert image["video"]["resumed_frames"] in (250, 500)
    assert image["video"]["frames"] == 600
    assert times(tmp_path / "a_x4.mp4") == times(clip)
    assert hidden(tmp_path) == []


class Invert(torch.nn.Module):
    def forward(self, batch):
        return 1 - batch


def test_a_model_of_masks_takes_no_clips(clip):
    facts = {"value_range": (0, 1), "channels": 1, "input_kind": "mask"}
    with (
        gankit.Translator(Invert(), backend="eager", device="cpu", **facts) as translator,
        pytest.raises(UsageError, match="takes masks, and clips hold none"),
    ):
        run_files(translator, clip, video=QUICK)


def test_a_translator_keeps_the_size(clip, tmp_path):
    with gankit.Translator(Invert(), value_range=(0, 1), channels=3, backend="eager", device="cpu") as translator:
        [report] = run_files(translator, clip, video=QUICK).images
    assert report.target == tmp_path / "a_translated.mp4"
    assert report.output_size == (64, 48)
    source, result = (read_frames(path)[3].to_ndarray(format="gray") for path in (clip, report.target))
    assert abs(source.astype(int) + result - 255).mean() < 6


def test_the_report_states_the_share_of_the_engine(upscaler, mixed, tmp_path):
    for source in (mixed / "a.mp4", mixed):
        totals = run_files(upscaler, source, tmp_path / f"out_{source.name}", video=QUICK).totals
        assert totals.engine_seconds / totals.seconds <= totals.engine_share <= 1
        assert totals.bottleneck in ("engine", "decoder", "encoder")
    assert run_files(upscaler, mixed, tmp_path / "out_in", video=QUICK).totals.engine_share is None  # all are skipped
