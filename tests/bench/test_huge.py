"""A huge image within a limit of memory, on sizes that are small."""

import numpy as np
import pytest

from bench import huge
from bench.huge import Compared, Scene
from gankit.images import encode, from_array

pytest.importorskip("pyvips", reason="pyvips reads the results: pip install 'gankit[large]'")


@pytest.fixture(scope="module")
def scene():
    return Scene(150, 101, np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8))


@pytest.fixture(scope="module")
def module():
    return huge.network()


def whole(scene, module):
    return huge.expected(scene, module, 0, scene.height, 0, scene.width)


def test_a_part_of_the_scene_is_a_part_of_the_whole(scene):
    pixels = scene.part(0, 101, 0, 150)
    np.testing.assert_array_equal(scene.part(70, 99, 31, 150), pixels[70:99, 31:])
    assert (pixels[:40, :56] != pixels[40:80, 56:112]).any()
    assert len(np.unique(pixels)) > 150


@pytest.mark.parametrize("suffix", [".tiff", ".png"])
def test_the_scene_is_written(scene, tmp_path, suffix):
    scene.write(tmp_path / f"a{suffix}")
    rows = np.concatenate(list(huge.rows_of(tmp_path / f"a{suffix}", (150, 101))))
    np.testing.assert_array_equal(rows, scene.part(0, 101, 0, 150))


@pytest.mark.parametrize("place", [(0, 0), (-1, -1), (203, 1), (1, 297), (403, 599)])
def test_windows_are_those_of_the_whole_image_and_a_wrong_pixel_is_found(scene, module, tmp_path, place):
    pixels = whole(scene, module)
    encode(from_array(pixels), tmp_path / "right.png")
    right = huge.compare_windows(scene, module, tmp_path / "right.png")
    assert right.most <= huge.MOST_LEVELS
    pixels = pixels.copy()
    pixels[place] ^= 128
    encode(from_array(pixels), tmp_path / "wrong.png")
    found = huge.compare_windows(scene, module, tmp_path / "wrong.png")
    assert (found.different, found.most) == (right.different + 3, 128)
    assert huge.compare_files(tmp_path / "right.png", tmp_path / "wrong.png", (600, 404)) == Compared(
        pixels.size, 3, 128
    )


@pytest.mark.slow
@pytest.mark.parametrize("format", ["tiff", "png"])
def test_the_command(capsys, format):
    """By strips within the limit, and the pixels of a run in one piece, which needs more."""
    small = ["--size", "2000x1500", "--max-memory", "520", "--backend", "eager", "--whole"]
    with pytest.raises(SystemExit) as ended:
        huge.main([*small, "--source", format, "--format", format])
    said = capsys.readouterr().out
    assert ended.value.code == 0, said
    lines = {line.strip().split("  ")[0]: line for line in said.splitlines()}
    assert "8000×6000, 48 MP" in lines["result"]
    assert " 0 strips" not in lines["engine"]
    assert " 0 strips" in lines["in one piece, engine"]
    assert "equal in all of 144.0 million samples" in lines["all pixels"]
