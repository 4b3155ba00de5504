"""Names that some disks take for one: both results are kept, and the new name is said."""

import os
import unicodedata

import pytest

from gankit.errors import UsageError
from gankit.pipeline.inputs import collect
from gankit.pipeline.notices import notices


def sources(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    if len({os.path.realpath(folder / name) for name in names}) != len(list(folder.iterdir())):
        pytest.skip("this disk cannot hold both")
    return folder


def targets(found, output):
    return [job.target.relative_to(output).as_posix() for job in found.jobs]


def test_names_that_differ_in_case(tmp_path):
    found = collect([sources(tmp_path / "in", "A.png", "a.png", "b.png")], tmp_path / "out")
    assert targets(found, tmp_path / "out") == ["A.png", "a_2.png", "b.png"]
    (line,) = notices(found, [])
    assert line == (
        f"{tmp_path / 'in' / 'a.png'} becomes a_2.png, because another result has this name "
        "on disks that ignore case and Unicode normalisation"
    )


def test_names_that_differ_in_normalisation(tmp_path):
    composed, decomposed = "é.png", unicodedata.normalize("NFD", "é.png")
    found = collect([sources(tmp_path / "in", composed, decomposed)], tmp_path / "out", suffix="_x4")
    first, second = targets(found, tmp_path / "out")
    assert unicodedata.normalize("NFC", second) == "é_x4_2.png"
    assert {unicodedata.normalize("NFC", first)} == {"é_x4.png"}


def test_extensions_folders_and_numbers_that_are_taken(tmp_path):
    found = collect([sources(tmp_path / "in", "a.PNG", "a.png", "a_2.png", "A_2.png")], tmp_path / "out")
    names = targets(found, tmp_path / "out")
    assert len({name.casefold() for name in names}) == 4
    assert "a_2.png" in names or "A_2.png" in names
    (tmp_path / "more" / "X").mkdir(parents=True)
    (tmp_path / "more" / "X" / "1.png").touch()
    (tmp_path / "more" / "x").mkdir()
    (tmp_path / "more" / "x" / "1.png").touch()
    found = collect([tmp_path / "more"], tmp_path / "out")
    assert targets(found, tmp_path / "out") == ["X/1.png", "x/1_2.png"]


def test_beside_the_sources(tmp_path):
    root = sources(tmp_path / "in", "A.png", "a.png")
    found = collect([root / "A.png", root / "a.png"], None, mark="_x4")
    assert targets(found, root) == ["A_x4.png", "a_x4_2.png"]


def test_a_target_that_is_a_source_on_a_disk_that_ignores_case(tmp_path):
    """A second name of the file stands for such a disk."""
    root = sources(tmp_path / "in", "a.JPG")
    (root / "a.jpg").hardlink_to(root / "a.JPG")
    with pytest.raises(UsageError, match="would replace it"):
        collect([root / "a.JPG"], root, format="jpg")
    (root / "a.jpg").unlink()
    assert len(collect([root / "a.JPG"], root, format="jpg").jobs) == 1
