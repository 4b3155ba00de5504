"""The folder of the cache, also where the user has no home."""

import os
from pathlib import Path

import pytest

from gankit import paths


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """A user without a home, and a temporary folder of the test's own."""
    for name in ("GANKIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(paths.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(paths.tempfile, "tempdir", str(tmp_path))

    def unknown(*_, **__):
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr(paths, "user_cache_path", unknown)
    paths._private.cache_clear()
    yield
    paths._private.cache_clear()


@pytest.fixture
def own(tmp_path):
    return tmp_path / (f"gankit-cache-{os.getuid()}" if hasattr(os, "getuid") else "gankit-cache")


def test_without_a_home_the_cache_is_temporary_and_this_is_said(own):
    assert paths.cache_folder() == own
    assert str(own) in paths.cache_notice()
    assert own.is_dir()
    assert paths.cache_folder() == own  # the next run finds it again


def test_a_tilde_is_no_home(own, monkeypatch):
    monkeypatch.setattr(paths, "user_cache_path", lambda *_, **__: Path("~/.cache/gankit"))
    assert paths.cache_folder() == own


def test_a_home_that_cannot_be_written(own, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "user_cache_path", lambda *_, **__: tmp_path / "home" / ".cache" / "gankit")
    assert paths.cache_folder() == tmp_path / "home" / ".cache" / "gankit"
    assert paths.cache_notice() is None
    assert not (tmp_path / "home").exists()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    assert paths.cache_folder() == own


def test_the_variable_counts_first(monkeypatch, tmp_path):
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "mine"))
    assert paths.cache_folder() == tmp_path / "mine"
    assert paths.cache_notice() is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no users")
@pytest.mark.parametrize("kind", ["link", "writable", "file"])
def test_a_folder_that_others_prepared_is_not_used(own, tmp_path, kind):
    if kind == "link":
        (tmp_path / "other").mkdir()
        own.symlink_to(tmp_path / "other")
    elif kind == "file":
        own.touch()
    else:
        own.mkdir()
        own.chmod(0o777)
    found = paths.cache_folder()
    assert found != own
    assert found.stat().st_mode & 0o077 == 0
    assert paths.cache_folder() == found
