"""Which images are found, and the names of their results."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gankit.errors import UsageError
from gankit.pipeline.inputs import collect


@pytest.fixture
def tree(tmp_path):
    """photos/{a.png,b.JPG,notes.txt,.hidden.png,sub/c.png,.git/d.png}"""
    root = tmp_path / "photos"
    for name in ("a.png", "b.JPG", "notes.txt", ".hidden.png", "sub/c.png", ".git/d.png"):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    return root


def names(inputs, output):
    return [str(job.target.relative_to(output)) for job in inputs.jobs]


def test_a_folder_is_mirrored_without_hidden_and_other_files(tree, tmp_path):
    found = collect([tree], tmp_path / "out")
    assert names(found, tmp_path / "out") == ["a.png", "b.JPG", "sub/c.png"]
    assert found.ignored == 2  # notes.txt and .hidden.png; .git is not entered


def test_suffix_and_format(tree, tmp_path):
    found = collect([tree], tmp_path / "out", suffix="_x4", format="webp")
    assert names(found, tmp_path / "out") == ["a_x4.webp", "b_x4.webp", "sub/c_x4.webp"]


def test_several_folders_each_get_their_own(tree, tmp_path):
    other = tmp_path / "more"
    other.mkdir()
    (other / "a.png").touch()
    found = collect([tree, other], tmp_path / "out")
    assert names(found, tmp_path / "out") == ["photos/a.png", "photos/b.JPG", "photos/sub/c.png", "more/a.png"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["a.png"]),
        ("**/*.png", ["a.png", "sub/c.png"]),
        ("s*", ["sub/c.png"]),
        ("**", ["a.png", "b.JPG", "sub/c.png"]),
    ],
)
def test_patterns_are_mirrored_from_their_fixed_part(tree, tmp_path, pattern, expected):
    found = collect([f"{tree}/{pattern}"], tmp_path / "out")
    assert sorted(names(found, tmp_path / "out")) == expected


def test_a_pattern_that_is_a_file_name_is_the_file(tree, tmp_path):
    (tree / "[1].png").touch()
    (tree / "1.png").touch()
    assert names(collect([tree / "[1].png"], tmp_path / "out"), tmp_path / "out") == ["[1].png"]


def test_relative_paths(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tree)
    assert names(collect(["."], "../out"), Path("../out")) == ["a.png", "b.JPG", "sub/c.png"]
    assert names(collect([".", "sub"], "../out"), Path("../out")) == [
        "photos/a.png",
        "photos/b.JPG",
        "photos/sub/c.png",
    ]
    assert names(collect(["*.png"], "../out"), Path("../out")) == ["a.png"]


def test_sources_that_would_share_a_target_are_all_renamed(tmp_path):
    for name in ("a.png", "a.jpg", "b.png"):
        (tmp_path / name).touch()
    found = collect([tmp_path], tmp_path / "out", format="png", suffix="_x4")
    assert names(found, tmp_path / "out") == ["a_jpg_x4.png", "a_png_x4.png", "b_x4.png"]


def test_without_format_different_extensions_do_not_meet(tmp_path):
    for name in ("a.png", "a.jpg"):
        (tmp_path / name).touch()
    assert names(collect([tmp_path], tmp_path / "out"), tmp_path / "out") == ["a.jpg", "a.png"]


def test_equal_names_of_different_folders_are_refused(tmp_path):
    for name in ("one/a.png", "two/a.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"one/a\.png and .*two/a\.png would both become .*rename one"):
        collect([tmp_path / "one/a.png", tmp_path / "two/a.png"], tmp_path / "out")


def test_a_source_given_twice_is_done_once(tree, tmp_path):
    assert len(collect([tree, tree / "a.png"], tmp_path / "out").jobs) == 3


def test_output_inside_the_input_is_not_read(tree):
    output = tree / "out"
    (output / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/c.png"):
        (output / name).touch()
    for given in (tree, f"{tree}/**"):
        assert sorted(names(collect([given], output), output)) == ["a.png", "b.JPG", "sub/c.png"]


def test_own_results_beside_the_sources_are_not_read_again(tree):
    (tree / "a_x4.png").touch()
    found = collect([tree], tree, suffix="_x4")
    assert names(found, tree) == ["a_x4.png", "b_x4.JPG", "sub/c_x4.png"]


def test_results_among_their_sources_are_not_read_again(tree):
    (tree / "d_x4.png").touch()  # of no d.png: an image like others
    first = collect([tree], tree, suffix="_x4")
    assert names(first, tree) == ["a_x4.png", "b_x4.JPG", "d_x4_x4.png", "sub/c_x4.png"]
    for job in first.jobs:
        job.target.touch()
    for given in (tree, f"{tree}/**", f"{tree}/**/*.*"):
        again = collect([given], tree, suffix="_x4")
        assert sorted(again.jobs, key=str) == sorted(first.jobs, key=str)
        assert sorted(again.results) == sorted(job.target for job in first.jobs)


def test_results_that_the_shell_names_among_their_sources_are_passed_over(tree):
    """``gankit upscale photos/*.png -o photos --suffix _x4``, twice."""
    first = collect(sorted(tree.glob("[ab]*")), tree, suffix="_x4")
    assert first.results == ()
    for job in first.jobs:
        job.target.touch()
    named = sorted(tree.glob("[ab]*"))
    again = collect(named, tree, suffix="_x4")
    assert again.jobs == first.jobs
    assert again.results == (tree / "a_x4.png", tree / "b_x4.JPG")
    assert collect(named[1:], tree, suffix="_x4").jobs[0].source == tree / "a_x4.png", "without its source it is one"
    elsewhere = collect(named, tree.parent / "out", suffix="_x4")
    assert [job.source for job in elsewhere.jobs] == named


def test_nothing_that_was_named_is_overwritten(tree):
    (tree / "a_x4.png").touch()
    with pytest.raises(UsageError, match=r"a_x4\.png: the result of .*a\.png would replace it"):
        collect([tree / "a.png", tree / "a_x4.png"], tree, suffix="_x4", overwrite=True)
    found = collect([tree], tree, suffix="_x4", overwrite=True)  # nobody named it
    assert names(found, tree) == ["a_x4.png", "b_x4.JPG", "sub/c_x4.png"]
    (tree / "link_x4.png").symlink_to("a.png")
    (tree / "link.png").touch()
    with pytest.raises(UsageError, match=r"a\.png: the result of .*link\.png would replace it"):
        collect([tree / "a.png", tree / "link.png", tree / "link_x4.png"], tree, suffix="_x4")


def test_input_inside_the_output_is_read(tree):
    output = tree.parent
    assert names(collect([tree], output), output) == ["a.png", "b.JPG", "sub/c.png"]


def test_a_target_that_is_a_source_is_refused(tree):
    with pytest.raises(UsageError, match=r"a\.png.*would replace it"):
        collect([tree / "a.png"], tree)
    link = tree.parent / "link"
    link.symlink_to(tree)
    with pytest.raises(UsageError, match="would replace it"):
        collect([tree / "a.png"], link)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("missing", "no such file or folder"),
        ("*.gif", "no file matches this pattern"),
        ("notes.txt", "the extension is not that of an image"),
        ("empty", "no images found"),
        ("loop.png", "Too many levels of symbolic links"),
    ],
)
def test_finding_nothing_is_wrong_use(tree, tmp_path, given, message):
    (tree / "empty").mkdir()
    (tree / "loop.png").symlink_to("loop.png")
    with pytest.raises(UsageError, match=message) as caught:
        collect([f"{tree}/{given}"], tmp_path / "out")
    assert given in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"format": "psd"}, {"suffix": "a/b"}])
def test_wrong_options(tree, tmp_path, options):
    with pytest.raises(UsageError, match=r"psd|a/b"):
        collect([tree], tmp_path / "out", **options)
    with pytest.raises(UsageError, match="no input"):
        collect([], tmp_path / "out")


def test_a_folder_that_cannot_be_listed_is_named(tree, tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match=r"photos: cannot be read: Permission denied"):
        collect([tree], tmp_path / "out")


def test_a_folder_below_that_cannot_be_listed_is_reported(tree, tmp_path, monkeypatch):
    (tree / "locked").mkdir()
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for given in (tree, f"{tree}/**/*.*", f"{tree}/*"):
        found = collect([given], tmp_path / "out")
        assert sorted(names(found, tmp_path / "out")) == ["a.png", "b.JPG", "sub/c.png"]
        assert [str(error) for error in found.unreadable] == [f"{tree}/locked: cannot be read: Permission denied"]
    with pytest.raises(UsageError, match="locked: cannot be read"):
        collect([tree / "loc*"], tmp_path / "out")


LOCKED = """
import os, sys, tempfile
from pathlib import Path
import PIL.Image, gankit.images  # before the rights to read them may be gone
from gankit.errors import GankitError
from gankit.pipeline.inputs import collect
from gankit.pipeline.upscaler import Upscaler

if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    Path("a.png").touch()
    Path("locked").mkdir(0)
    upscaler = Upscaler()
    for attempt in (
        lambda: collect(["locked/a.png"], "out"),
        lambda: collect(["locked/in"], "out"),
        lambda: collect(["locked/*.png"], "out"),
        lambda: upscaler.run("a.png", "locked/out"),
        lambda: upscaler.run("a.png", "locked"),
    ):
        try:
            attempt()
        except GankitError as error:
            print(error)
"""


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="no users")
def test_folders_of_somebody_else():
    done = subprocess.run([sys.executable, "-c", LOCKED], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert len(lines) == 5, done.stderr
    for line in lines:
        assert line.startswith("locked")
        assert "Permission denied" in line


def test_links_to_folders_are_not_followed(tree, tmp_path):
    """``l -> .`` would give each image 40 times, and two of them never end."""
    for name in ("l", "m", "sub/up"):
        (tree / name).symlink_to(tree)
    expected = ["a.png", "b.JPG", "sub/c.png"]
    for given in (tree, f"{tree}/**", f"{tree}/**/*"):
        found = collect([given], tmp_path / "out")
        assert sorted(names(found, tmp_path / "out")) == expected
        assert found.ignored == (4 if given == f"{tree}/**/*" else 5)  # notes.txt, links; * leaves .hidden.png alone
    assert names(collect([f"{tree}/*/c.png"], tmp_path / "out"), tmp_path / "out") == ["sub/c.png"]
    assert names(collect([f"{tree}/l/*.png"], tmp_path / "out"), tmp_path / "out") == ["a.png"]  # named: followed
    assert names(collect([tree / "l"], tmp_path / "out"), tmp_path / "out") == expected


def test_links_to_files_are_images_of_their_own(tree, tmp_path):
    (tree / "z.png").symlink_to("a.png")
    assert names(collect([tree], tmp_path / "out"), tmp_path / "out") == ["a.png", "b.JPG", "z.png", "sub/c.png"]
    (tmp_path / "link").symlink_to(tree)
    assert len(collect([tree, tmp_path / "link"], tmp_path / "out").jobs) == 4  # one folder by two names


def test_ignored_files_count_once(tree, tmp_path):
    assert collect([f"{tree}/**/*", f"{tree}/**", tree], tmp_path / "out").ignored == 2


def test_other_files_among_several_are_ignored(tree, tmp_path):
    """As the shell hands over ``photos/*``; alone, such a file is an error."""
    given = [tree / "a.png", tree / "b.JPG", tree / "notes.txt"]
    found = collect(given, tmp_path / "out")
    assert names(found, tmp_path / "out") == ["a.png", "b.JPG"]
    assert found.ignored == 1
    with pytest.raises(UsageError, match="no images found"):
        collect([tree / "notes.txt", tree / "notes.txt"], tmp_path / "out")
    with pytest.raises(UsageError, match="no such file"):
        collect([tree / "a.png", tree / "missing.txt"], tmp_path / "out")


@pytest.mark.parametrize(("given", "output"), [("", "out"), ("a.png", "")])
def test_empty_names(tree, monkeypatch, given, output):
    monkeypatch.chdir(tree)
    with pytest.raises(UsageError, match="empty name"):
        collect([given], output)


def test_tif_is_a_format(tree, tmp_path):
    assert names(collect([tree / "a.png"], tmp_path / "out", format="TIF"), tmp_path / "out") == ["a.tif"]


def test_apng_becomes_png(tmp_path):
    (tmp_path / "a.apng").touch()
    assert names(collect([tmp_path], tmp_path / "out"), tmp_path / "out") == ["a.png"]
