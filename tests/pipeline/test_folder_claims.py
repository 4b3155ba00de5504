"""Claims on results in local folders."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pipeline_fakes import install_repeat

import gankit
from gankit.errors import OutputError
from gankit.pipeline import folder_claims
from gankit.pipeline.folder_claims import NAME, FolderClaims, remove_unused
from gankit.pipeline.journal import NAME as JOURNAL
from gankit.pipeline.journal import Entry, Journal, State
from tests.together import twice_at_once

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the locks of one process exclude each other on Linux")

HOLD = """
import sys
from pathlib import Path
from gankit.pipeline.folder_claims import FolderClaims
assert FolderClaims().take(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.readline()
"""


def test_one_run_has_a_claim_until_it_gives_it_up(tmp_path):
    target, other = tmp_path / "new" / "a.png", tmp_path / "new" / "b.png"
    with FolderClaims() as mine, FolderClaims() as theirs:
        assert mine.take(target)
        assert mine.take(target)
        assert not theirs.take(target)
        assert theirs.take(other)
        mine.release(target)
        assert theirs.take(target)
        assert not mine.take(target)
        assert [path.name for path in (tmp_path / "new").iterdir()] == [NAME]
    assert not (tmp_path / "new").exists()


def test_the_file_stays_while_a_run_uses_it(tmp_path):
    with FolderClaims() as mine:
        assert mine.take(tmp_path / "a.png")
        with FolderClaims() as theirs:
            assert not theirs.take(tmp_path / "a.png")
        remove_unused(tmp_path)
        assert (tmp_path / NAME).exists()
    assert not (tmp_path / NAME).exists()


def test_the_claims_of_a_process_that_was_killed_are_free(tmp_path):
    target = tmp_path / "a.png"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        with FolderClaims() as mine:
            assert not mine.take(target)
            process.kill()
            process.wait()
            assert mine.take(target)
        assert not (tmp_path / NAME).exists()


def test_few_files_are_kept_open(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_claims, "_MOST_FOLDERS", 3)
    targets = [tmp_path / f"{number}" / "a.png" for number in range(10)]
    before = len([*Path("/proc/self/fd").iterdir()])
    with FolderClaims() as mine:
        for target in targets:
            assert mine.take(target)
            mine.release(target)
        assert len([*Path("/proc/self/fd").iterdir()]) == before + 3
    assert len([*Path("/proc/self/fd").iterdir()]) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("planted", ["link", "dangling", "folder", "pipe"])
def test_what_is_in_the_place_of_the_file_is_left_alone(planted, tmp_path):
    """Whoever may write to a folder of results must not make gankit write, wait or remove anything elsewhere."""
    secret, place = tmp_path / "secret", tmp_path / "out" / NAME
    place.parent.mkdir()
    if planted != "dangling":
        secret.write_text("kept")
    if planted in ("link", "dangling"):
        place.symlink_to(secret)
    elif planted == "folder":
        place.mkdir()
    else:
        os.mkfifo(place)
    with FolderClaims() as mine, FolderClaims() as theirs:
        assert mine.take(tmp_path / "out" / "a.png")
        assert theirs.take(tmp_path / "out" / "a.png"), "as if it were alone"
    remove_unused(tmp_path / "out")
    assert os.path.lexists(place)
    assert secret.exists() == (planted != "dangling")


def test_no_link_is_followed_out_of_the_output_folder(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")
    with FolderClaims([tmp_path / "out"]) as mine, pytest.raises(OutputError, match="leads out of the output folder"):
        mine.take(tmp_path / "out" / "sub" / "a.png")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_without_locks_a_run_works_as_if_it_were_alone(tmp_path, monkeypatch):
    def refuses(*_):
        raise OSError("no locks available")

    monkeypatch.setattr(folder_claims, "try_lock", refuses)
    with FolderClaims() as mine, FolderClaims() as theirs:
        assert mine.take(tmp_path / "a.png")
        assert theirs.take(tmp_path / "a.png")


def entry(name):
    return Entry(name, f"/in/{name}", State(7, 8), "ab", 9.0, "cd")


def test_a_journal_that_is_rewritten_keeps_the_lines_of_other_runs(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"result")
    log = Journal(tmp_path)
    for _ in range(100):
        log.finish(entry("0.png"))
    first, second = Journal(tmp_path), Journal(tmp_path)
    second._checked = True
    second.finish(entry("1.png"))
    first.finish(entry("2.png"))
    assert len((tmp_path / JOURNAL).read_bytes().splitlines()) == 3
    assert set(Journal(tmp_path)._done) == {"0.png", "1.png", "2.png"}
    second.update()
    assert set(second._done) == {"0.png", "1.png", "2.png"}


@pytest.fixture
def source(tmp_path, monkeypatch):
    install_repeat(monkeypatch)
    folder = tmp_path / "in"
    folder.mkdir()
    for seed in range(12):
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed:02}.png")
        os.utime(folder / f"{seed:02}.png", (1e9, 1e9))
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "animated.png", save_all=True, append_images=frames[1:], duration=100)
    return folder


def run(source, out, lines=None, **options):
    states = []
    with gankit.Upscaler("srgan", notify=None if lines is None else lines.append) as upscaler:
        report = upscaler.run(source, out, progress=states.append, **options)
    return report, states


def test_two_runs_share_the_work(source, tmp_path, monkeypatch):
    from gankit import images

    made, write = [], images.encode

    def encode(image, target, **options):
        made.append(target.name)
        return write(image, target, **options)

    monkeypatch.setattr(images, "encode", encode)

    def one(begin):
        begin()
        return run(source, tmp_path / "out")

    reports = twice_at_once(one)
    assert sorted(made) == [f"{seed:02}.png" for seed in range(12)]
    assert sum(report.totals.done for report, _ in reports) == 13
    assert {report.totals.done + report.totals.skipped for report, _ in reports} == {13}
    for report, states in reports:
        assert states[-1].done == states[-1].total == report.totals.done
        assert states[-1].part == pytest.approx(1)
    (tmp_path / "out" / NAME).touch()  # as a killed run leaves it
    assert run(source, tmp_path / "out")[0].totals.skipped == 13
    assert not (tmp_path / "out" / NAME).exists()


def test_what_another_run_has_claimed_is_waited_for(source, tmp_path):
    """One result the other run makes, and two it leaves undone."""
    out, lines, reports = tmp_path / "out", [], []
    names = ["00.png", "01.png", "animated.png"]
    with FolderClaims() as other:
        assert all(other.take(out / name) for name in names)
        thread = threading.Thread(target=lambda: reports.append(run(source, out, lines)))
        thread.start()
        while not any("waiting for 3 results that other runs are making" in line for line in lines):
            assert thread.is_alive()
            threading.Event().wait(0.01)
        journal = Journal(out)
        journal.begin(entry("00.png"))
        (out / "00.png").write_bytes(b"made by the other")
        journal.finish(entry("00.png"))
        for name in names[1:]:
            other.release(out / name)
        deadline = 1000
        while not (out / "animated.png").exists() and deadline:
            deadline -= 1
            threading.Event().wait(0.01)
        other.release(out / "00.png")
        thread.join()
    report, states = reports[0]
    assert report.totals.done == 13, "the result of other weights is made again"
    assert states[-1].done == states[-1].total == 13


def test_a_result_that_appeared_meanwhile_is_kept_or_skipped(source, tmp_path, monkeypatch):
    """Another run has made one since this one began, and another program one more."""
    from gankit.pipeline import images

    out, process = tmp_path / "out", images.process

    def later(*args, **options):
        monkeypatch.setattr(images, "process", process)
        for name in range(2, 12):
            (source / f"{name:02}.png").rename(tmp_path / f"{name:02}.png")
        run(source, out)
        (out / "01.png").write_bytes(b"of another program")
        for name in range(2, 12):
            (tmp_path / f"{name:02}.png").rename(source / f"{name:02}.png")
        return process(*args, **options)

    monkeypatch.setattr(images, "process", later)
    report, states = run(source, out)
    statuses = {item.source.name: item.status for item in report.images}
    assert (statuses["00.png"], statuses["01.png"], statuses["02.png"]) == ("skipped", "kept", "done")
    assert (out / "01.png").read_bytes() == b"of another program"
    assert states[-1].total == states[-1].done == 10
