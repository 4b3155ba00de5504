"""Damaged files are read or refused; ``python -m tests.fuzz_images`` looks at more of them."""

import os
import random
import struct
import time

import pytest
import tifffile

from gankit.errors import ImageError
from gankit.images import decode
from gankit.images.formats import REGISTRY
from gankit.images.frames import kind_of
from gankit.images.rows import header_of
from gankit.images.tiff_file import page_numbers
from gankit.pipeline.workload import declared_pixels
from tests import fuzz_images
from tests.fuzz_files import damaged, whole_files
from tests.fuzz_images import Case, cases, main, run, summary


def test_the_whole_files_of_every_format_are_read(tmp_path):
    files = whole_files()
    assert set(files) == {format.name for format in REGISTRY}
    for name, found in files.items():
        for number, data in enumerate(found):
            path = tmp_path / f"{number}.{name}"
            path.write_bytes(data)
            assert decode(path).format == name.upper()
            assert fuzz_images.look(path) == "read"


def test_the_same_seed_does_the_same_damage():
    first, again, other = (list(cases(24, seed)) for seed in (1, 1, 2))
    assert first == again
    assert [case.data for case in first] != [case.data for case in other]
    data = whole_files()["png"][0]
    assert any(damaged(data, data, random.Random(n))[1] != data for n in range(3))


def test_sixty_files(capsys):
    assert main(["--count", "60", "--seed", "1", "--workers", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "60 files, 0 failures"


@pytest.mark.slow
def test_a_thousand_files(capsys):
    assert main(["--count", "1000", "--seed", "2", "--workers", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1000 files, 0 failures"


def tiff_with(tag, type, count, value):
    """A TIFF of one strip in which a field has another type, count and value."""
    data = bytearray(whole_files()["tiff"][3])
    (directory,) = struct.unpack_from("<I", data, 4)
    (fields,) = struct.unpack_from("<H", data, directory)
    places = {struct.unpack_from("<H", data, at)[0]: at for at in range(directory + 2, directory + 2 + 12 * fields, 12)}
    struct.pack_into("<HHI", data, places[tag], tag, type, count)
    data[places[tag] + 8 : places[tag] + 12] = value
    return data, directory + 2 + 12 * fields


@pytest.mark.parametrize(
    "field",
    [(256, 3, 2, struct.pack("<HH", 37, 29)), (257, 11, 1, struct.pack("<f", 29.0))],
    ids=["several", "float"],
)
def test_a_size_that_is_not_one_whole_number(tmp_path, field):
    path = tmp_path / "a.tiff"
    path.write_bytes(tiff_with(*field)[0])
    assert header_of(path) is None
    assert declared_pixels(path) is None
    with pytest.raises(ImageError, match=r"the file is damaged \(its size is "):
        decode(path)


def test_pages_that_never_end(tmp_path):
    data, place = tiff_with(256, 3, 1, struct.pack("<HH", 37, 0))
    data[place : place + 4] = data[4:8]  # the first page is also the next one
    path = tmp_path / "a.tiff"
    path.write_bytes(data)
    with tifffile.TiffFile(path) as file, pytest.raises(ValueError, match="page 2 is an earlier page"):
        page_numbers(file)
    assert kind_of(path) is None
    assert decode(path).pixels.shape == (29, 37, 3)


def test_a_run_length_coded_bmp_of_too_many_pixels(tmp_path):
    """It took minutes to fill them."""
    data = bytearray(whole_files()["bmp"][-1])
    path = tmp_path / "a.bmp"
    path.write_bytes(data)
    assert decode(path).pixels.shape[:2] == (29, 37)
    data[20] = 32  # the third byte of the width
    path.write_bytes(data)
    with pytest.raises(ImageError, match="cannot hold 60818481 pixels"):
        decode(path)


def misbehave(path):
    """Stands in for :func:`tests.fuzz_images.look`."""
    action = path.read_bytes().decode()
    if action == "crash":
        os.abort()
    if action == "hang":
        while True:
            time.process_time()
    if action == "memory":
        return str(bytearray(os.urandom(1 << 20) * 40)[:0] or "read")
    if action == "exception":
        raise KeyError("no such tag")
    return action


def work(connection, folder):
    """The body of a worker with smaller limits, which is imported by name in its process."""
    fuzz_images.look, fuzz_images.CPU_SECONDS = misbehave, 1
    fuzz_images.MEMORY_BYTES = fuzz_images._peak() + (20 << 20)
    _REAL_WORK(connection, folder)


_REAL_WORK = fuzz_images._work


@pytest.mark.slow
def test_each_failure_is_found_and_the_others_go_on(monkeypatch):
    monkeypatch.setattr(fuzz_images, "_work", work)
    actions = ["read", "crash", "refused", "hang", "memory", "exception", "read"]
    given = iter([Case(n, "png", "none", action.encode()) for n, action in enumerate(actions)])
    outcomes = sorted(run(given, workers=2), key=lambda outcome: outcome.case.number)
    assert [outcome.kind for outcome in outcomes] == actions
    assert [outcome.failed for outcome in outcomes] == [action not in ("read", "refused") for action in actions]
    lines = summary(outcomes)
    assert "crash: file 1 (png, none): SIGABRT" in lines
    assert "exception: file 5 (png, none): KeyError: 'no such tag'" in lines
    assert lines[-1] == "7 files, 4 failures"
