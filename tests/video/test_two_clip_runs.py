"""Two runs that make clips in one folder at the same time."""

import threading

import pytest

pytest.importorskip("av", reason="clips need PyAV: pip install 'gankit[video]'")

from video_making import write_clip

from gankit.pipeline.folder_claims import NAME, FolderClaims
from gankit.video import VideoOptions, run_files

QUICK = VideoOptions(crf=0, preset="ultrafast", segment=5)


def test_a_clip_that_another_run_is_making_is_left_for_the_end(upscaler, lines, tmp_path):
    for name in "ab":
        (tmp_path / "in").mkdir(exist_ok=True)
        write_clip(tmp_path / "in" / f"{name}.mp4", 4)
    out, reports = tmp_path / "out", []
    with FolderClaims() as other:
        assert other.take(out / "a.mp4")
        thread = threading.Thread(target=lambda: reports.append(run_files(upscaler, tmp_path / "in", out, video=QUICK)))
        thread.start()
        while not any("waiting for a result that another run is making" in line for line in lines):
            assert thread.is_alive()
            threading.Event().wait(0.01)
        assert [path.name for path in out.glob("*.mp4")] == ["b.mp4"]
    thread.join()
    assert {image.source.name: image.status for image in reports[0].images} == {"a.mp4": "done", "b.mp4": "done"}
    assert not (out / NAME).exists()
