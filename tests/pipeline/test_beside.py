"""Without an output folder, results go beside their sources, and the first line says where."""

import numpy as np
import pytest
from PIL import Image

from gankit import cli
from gankit.errors import UsageError
from gankit.pipeline.inputs import collect
from tests.cli.cli_fakes import install
from tests.opening import opened


@pytest.fixture
def tree(tmp_path):
    for name in ("photos/a.png", "photos/sub/b.jpg", "one.png", "two.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / name)
    return tmp_path


def targets(*inputs, **options):
    found = collect(inputs, None, mark="_x4", **options)
    return [job.target for job in found.jobs], list(found.places)


def test_a_folder(tree):
    for given in (tree / "photos", f"{tree}/photos/"):
        assert targets(given) == (
            [tree / "photos_x4" / "a.png", tree / "photos_x4" / "sub" / "b.jpg"],
            [tree / "photos_x4"],
        )


def test_the_current_folder(tree, monkeypatch):
    monkeypatch.chdir(tree / "photos")
    made, places = targets(".")
    assert [path.resolve() for path in made] == [tree / "photos_x4" / "a.png", tree / "photos_x4" / "sub" / "b.jpg"]
    assert [path.resolve() for path in places] == [tree / "photos_x4"]


def test_files_and_patterns(tree):
    assert targets(tree / "one.png") == ([tree / "one_x4.png"], [tree / "one_x4.png"])
    assert targets(tree / "one.png", format="jpg", suffix="_new")[0] == [tree / "one_x4_new.jpg"]
    assert targets(f"{tree}/*.*") == ([tree / "one_x4.png", tree / "two_x4.webp"],) * 2


def test_several(tree):
    made, places = targets(tree / "photos", tree / "one.png")
    assert made[-1] == tree / "one_x4.png"
    assert places == [tree / "photos_x4", tree / "one_x4.png"]


def test_results_of_an_earlier_run_are_no_sources(tree):
    Image.new("RGB", (20, 16)).save(tree / "one_x4.png")
    found = collect([f"{tree}/one*.png"], None, mark="_x4")
    assert [job.target for job in found.jobs] == [tree / "one_x4.png"]
    assert found.results == (tree / "one_x4.png",)


def test_what_is_no_image_is_refused(tree):
    (tree / "notes.txt").write_text("no image")
    with pytest.raises(UsageError, match="the extension is not that of an image"):
        targets(tree / "notes.txt")
    assert targets(tree / "notes.txt", tree / "one.png")[0] == [tree / "one_x4.png"]


@pytest.mark.parametrize(("given", "made"), [("photos/", "photos_x4/a.png"), ("one.png", "one_x4.png")])
def test_the_command_as_it_stands(given, made, tree, monkeypatch, capsys):
    """``gankit upscale dir/`` works with no other option, says where first, and skips what is there."""
    monkeypatch.chdir(tree)
    install(monkeypatch.setattr)
    assert cli.main(["upscale", given]) == 0
    assert opened(tree / made).size == (20, 16)
    said = capsys.readouterr()
    first = (said.err + said.out).splitlines()[0]
    assert first == f"writing to {'photos_x4/' if 'photos' in given else 'one_x4.png'}"
    assert cli.main(["upscale", given]) == 0
    assert "skipped (results exist)" in capsys.readouterr().out
