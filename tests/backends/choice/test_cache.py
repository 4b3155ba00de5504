"""Choices on disk, and forgetting them."""

import math
from pathlib import Path

import pytest

from gankit import cli
from gankit.backends.choice import cache
from gankit.backends.choice.cache import Choice, clear, drop, look_up, store
from gankit.paths import cache_folder

CHOICE = Choice("eager", "bf16", "cpu", math.inf, 0.0, "a step", 1.25, kernels=False, artefact="ab" * 32)


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "choices"


def test_a_choice_comes_back_whole(folder):
    assert look_up(["q"]) is None
    store(["q"], CHOICE)
    assert look_up(["q"]) == CHOICE
    assert look_up(["other"]) is None
    assert len(list(folder.iterdir())) == 1
    drop(["q"])
    drop(["q"])
    assert look_up(["q"]) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"backend": 3}', "[" * 100_000, "\xff"])
def test_a_damaged_choice_is_reported_in_one_line(folder, text):
    lines = []
    look_up(["q"], lines.append)
    assert lines == [], "a missing choice is no damage"
    store(["q"], CHOICE)
    (path,) = folder.iterdir()
    path.write_text(text, encoding="latin-1")
    assert look_up(["q"], lines.append) is None
    assert lines == [f"{path}: this cached choice of a backend is damaged; measuring again"]


@pytest.mark.parametrize("name", ["write_text", "replace"])
def test_nothing_half_is_left_where_a_choice_cannot_be_kept(name, folder, monkeypatch):
    real = getattr(Path, name)

    def full(self, *args, **kwargs):
        if name == "write_text":
            real(self, "half", **kwargs)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, name, full)
    store(["q"], CHOICE)
    assert list(folder.iterdir()) == []


def test_a_choice_that_cannot_be_removed_does_no_harm(monkeypatch):
    store(["q"], CHOICE)

    def refuse(self, missing_ok=False):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    drop(["q"])


def test_doctor_removes_all(capsys):
    store(["q"], CHOICE)
    store(["r"], CHOICE)
    assert cli.main(["doctor", "--forget"]) == 0
    assert "2 cached choices removed" in capsys.readouterr().out
    assert look_up(["q"]) is None
    assert clear() == 0


def test_doctor_says_what_cannot_be_dropped(capsys, monkeypatch):
    store(["q"], CHOICE)

    def refuse(self, missing_ok=False):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    assert cli.main(["doctor", "--forget"]) == 2
    assert f"{cache_folder() / 'choices'}: cannot be emptied (Permission denied)" in capsys.readouterr().err


def test_the_key_is_quick_to_make():
    import time

    cache._file(["q"])
    began = time.perf_counter()
    cache._file(["q"])
    assert time.perf_counter() - began < 0.5
