"""Files that are no inputs: those of other programs, and images of formats that gankit does not read."""

import pytest

from gankit.errors import UsageError
from gankit.pipeline.inputs import collect
from gankit.pipeline.notices import notices


def tree(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


OTHERS = [
    "._a.png",
    ".hidden.png",
    "__MACOSX/b.png",
    "__MACOSX/._a.png",
    ".ipynb_checkpoints/a-checkpoint.png",
    "s/.thumbnails/a.png",
]


@pytest.mark.parametrize("pattern", ["", "**", "**/*", "**/*.png"])
def test_files_of_other_programs(tmp_path, pattern):
    root = tree(tmp_path / "in", "a.png", "s/c.png", *OTHERS)
    found = collect([root / pattern], tmp_path / "out")
    assert {job.source.relative_to(root).as_posix() for job in found.jobs} == {"a.png", "s/c.png"}


def test_named_by_the_shell(tmp_path):
    """``photos/*`` leaves hidden names out, but not ``__MACOSX``."""
    root = tree(tmp_path / "in", "a.png", *OTHERS)
    for output in (tmp_path / "out", None):
        found = collect([root / "__MACOSX", root / "a.png"], output, mark="_x4")
        assert [job.source.name for job in found.jobs] == ["a.png"]


def test_images_that_are_not_read_are_named(tmp_path):
    root = tree(tmp_path / "in", "a.png", "b.PSD", "c.psb", "s/d.hdr", "notes.txt", ".e.psd")
    found = collect([root], tmp_path / "out")
    assert found.ignored == 2
    lines = list(notices(found, []))
    assert lines == [
        f"{root / 'b.PSD'} and 1 more are Photoshop images, which gankit does not read; "
        "convert to PNG, TIFF or JPEG first",
        f"{root / 's' / 'd.hdr'} is a Radiance HDR image, which gankit does not read; "
        "convert to PNG, TIFF or JPEG first",
    ]


@pytest.mark.parametrize("given", ["b.jp2", ""])
def test_nothing_but_images_that_are_not_read(tmp_path, given):
    root = tree(tmp_path / "in", "b.jp2")
    for output in (tmp_path / "out", None):
        with pytest.raises(UsageError, match=r"b\.jp2 is a JPEG 2000 image, which gankit does not read; convert"):
            collect([root / given], output, mark="_x4")
