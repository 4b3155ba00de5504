"""A file is there whole, or what was there before is untouched."""

import errno
import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from gankit_export.files import PARTIAL, atomic_path, partial_path


@pytest.mark.parametrize("sync", [False, True])
def test_success(tmp_path, sync):
    path = tmp_path / "x.txt"
    for text in ("first", "second"):
        with atomic_path(path, sync=sync) as temporary:
            assert temporary.parent == tmp_path
            assert not temporary.exists()
            temporary.write_text(text)
            assert PARTIAL.fullmatch(temporary.name)
        assert path.read_text() == text
    assert [item.name for item in tmp_path.iterdir()] == ["x.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("before", [None, "before"])
def test_failure_keeps_what_was_there(tmp_path, error, begun, before):
    path = tmp_path / "x.txt"
    if before is not None:
        path.write_text(before)

    def write():
        with atomic_path(str(path)) as temporary:
            if begun:
                temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert [item.read_text() for item in tmp_path.iterdir()] == ([] if before is None else [before])


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("before")
    with pytest.raises(FileNotFoundError), atomic_path(path):
        pass
    assert path.read_text() == "before"


def test_a_target_that_is_a_folder(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match="x"), atomic_path(tmp_path / "x") as temporary:
        temporary.write_text("text")
    assert [item.name for item in tmp_path.iterdir()] == ["x"]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "no" / "x") as temporary:
        temporary.write_text("text")


@pytest.fixture
def read_only():
    """A folder with one file, neither of them writable; also for root, who becomes somebody else meanwhile."""
    folder = Path(tempfile.mkdtemp())  # tmp_path lies in a folder that nobody else may enter
    (folder / "x").write_text("before")
    (folder / "x").chmod(0o444)
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield folder
    if root:
        os.seteuid(0)
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="permissions of POSIX")
def test_a_read_only_folder(read_only):
    with pytest.raises(PermissionError), atomic_path(read_only / "x") as temporary:
        temporary.write_text("text")
    assert [item.read_text() for item in read_only.iterdir()] == ["before"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with atomic_path(tmp_path / "x", sync=True) as temporary:
            temporary.write_text("text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode


@pytest.mark.parametrize(("number", "harmless"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_disks_that_cannot_wait(tmp_path, monkeypatch, number, harmless):
    def fsync(descriptor):
        raise OSError(number, "no")

    monkeypatch.setattr(os, "fsync", fsync)

    def write():
        with atomic_path(tmp_path / "x", sync=True) as temporary:
            temporary.write_text("text")

    if harmless:
        write()
    else:
        with pytest.raises(OSError, match="no"):
            write()
    assert len(list(tmp_path.iterdir())) == harmless


def test_names_are_short_and_their_own(tmp_path):
    long = tmp_path / ("n" * 250 + ".onnx")
    with atomic_path(long, suffix=".onnx") as temporary:
        assert temporary.suffix == ".onnx"
        assert PARTIAL.fullmatch(temporary.name)
        temporary.write_text("text")
    assert long.exists()
    assert len({partial_path(tmp_path) for _ in range(100)}) == 100
    assert not PARTIAL.fullmatch(".gankit-notes.part")
