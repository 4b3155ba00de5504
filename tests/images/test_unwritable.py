"""Outputs that cannot be written, or are interrupted: one clear line, and no part of a file is left."""

import errno
import os
from pathlib import Path

import pytest
from images_making import pattern

from gankit.errors import ImageError, OutputError
from gankit.images import encode, from_array
from gankit.pipeline.output import remove_stale

IMAGE = from_array(pattern())


def refusing(monkeypatch, error):
    """Let the first write of an image file fail half-way, as a full disk does."""
    real_open = Path.open

    def fake_open(self, *args, **kwargs):
        file = real_open(self, *args, **kwargs)
        if self.suffix == ".part":
            real_write = file.write

            class Half:
                def __enter__(self):
                    return self

                def __exit__(self, *exc):
                    file.close()

                def write(self, data):
                    real_write(data[: len(data) // 2])
                    file.flush()
                    raise error

            return Half()
        return file

    monkeypatch.setattr(Path, "open", fake_open)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_output_that_takes_nothing(tmp_path, monkeypatch, code, suffix):
    """The run stops; what was there stays; no part of a file is left."""
    old = tmp_path / f"a{suffix}"
    old.write_bytes(b"what was there")
    refusing(monkeypatch, OSError(code, os.strerror(code)))
    with pytest.raises(OutputError, match="cannot be written") as caught:
        encode(IMAGE, old)
    assert str(old) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == [old.name]
    assert old.read_bytes() == b"what was there"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), MemoryError()])
def test_interrupted(tmp_path, monkeypatch, error):
    refusing(monkeypatch, error)
    with pytest.raises(type(error)):
        encode(IMAGE, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_interrupted_before_the_rename(tmp_path, monkeypatch):
    def interrupt(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        encode(IMAGE, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_disk_really_full(monkeypatch):
    """/dev/full answers every write with ENOSPC."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    real_open = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode: real_open(Path("/dev/full"), "wb"))
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok: None)
    with pytest.raises(OutputError, match="No space left on device; free some space"):
        encode(IMAGE, Path("/dev/shm/a.png"))


def test_pixels_are_on_the_disk_before_the_name(tmp_path, monkeypatch):
    """A loss of power between the two must not leave an empty file that the next run skips."""
    calls = []
    real_replace = Path.replace

    def fsync(descriptor):
        calls.append(os.fstat(descriptor).st_size)

    def replace(self, target):
        calls.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    encode(IMAGE, tmp_path / "a.png")
    assert calls == [(tmp_path / "a.png").stat().st_size, "rename"]


@pytest.mark.parametrize(
    ("code", "error"), [(errno.ENOSPC, OutputError), (errno.EIO, OutputError), (errno.EINVAL, None)]
)
def test_a_disk_that_answers_late(tmp_path, monkeypatch, code, error):
    def fsync(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    if error is None:  # a file system that has no such thing
        encode(IMAGE, tmp_path / "a.png")
        assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
        return
    with pytest.raises(error, match=r"a\.png: cannot be written"):
        encode(IMAGE, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_folder_is_gone(tmp_path):
    with pytest.raises(OutputError, match="the output folder is gone"):
        encode(IMAGE, tmp_path / "gone" / "a.png")


def test_name_is_a_folder(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(ImageError, match="cannot be written"):
        encode(IMAGE, tmp_path / "a.png")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_name_too_long_concerns_one_image(tmp_path):
    with pytest.raises(ImageError, match="cannot be written"):
        encode(IMAGE, tmp_path / ("x" * 300 + ".png"))
    assert not list(tmp_path.iterdir())


def test_long_name_that_still_fits(tmp_path):
    encode(IMAGE, tmp_path / ("x" * 251 + ".png"))


def test_mode_follows_the_umask(tmp_path):
    """Not 0600, as files made by tempfile have: images are for others too."""
    old = os.umask(0o022)
    try:
        encode(IMAGE, tmp_path / "a.png")
    finally:
        os.umask(old)
    assert (tmp_path / "a.png").stat().st_mode & 0o777 == 0o644


def test_the_temporary_file_is_one_that_a_later_run_removes(tmp_path, monkeypatch):
    """A killed run leaves it behind; its name is what ``remove_stale`` looks for."""
    names = []
    real_replace = Path.replace

    def replace(self, target):
        names.append(self)
        return real_replace(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    encode(IMAGE, tmp_path / "a.png")
    assert [name.parent for name in names] == [tmp_path]
    names[0].touch()
    os.utime(names[0], (0, 0))
    remove_stale(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
