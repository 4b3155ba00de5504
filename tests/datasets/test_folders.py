"""What of a folder is data, and what is made of transparency; the same wherever images are read."""

import numpy as np
import pytest
from PIL import Image

from gankit.cli.evaluate.sets import image_set
from gankit.datasets.folders import fingerprint, image_files, is_data, read_images
from gankit.datasets.pairs import read_side
from gankit.datasets.whole_images import WholeImages
from gankit.errors import UsageError
from gankit.evaluation.benchmark import find_pairs, read_rgb

APPLE_DOUBLE = b"\0\5\x16\7" + b"\0" * 100


@pytest.fixture
def classes(tmp_path):
    """Two classes, and what Jupyter and macOS leave in such folders."""
    folder = tmp_path / ".data" / "in"  # a hidden folder that is named is as good as any
    for name, level in (("cats", 40), ("dogs", 200)):
        (folder / name).mkdir(parents=True)
        for index in range(2):
            Image.new("L", (8, 8), level).save(folder / name / f"{index}.png")
    for name in (".ipynb_checkpoints", "__MACOSX/cats", "dogs/.hidden"):
        (folder / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(folder / name / "0-checkpoint.png")
    (folder / "cats/._0.png").write_bytes(APPLE_DOUBLE)
    (folder / "cats/.1.png").write_bytes((folder / "cats/1.png").read_bytes())
    return folder


def test_hidden_files_and_folders_are_no_data(classes, gankit_log):
    names = ["cats/0.png", "cats/1.png", "dogs/0.png", "dogs/1.png"]
    assert [path.relative_to(classes).as_posix() for path in image_files(classes)] == names
    assert list(read_side(classes)) == [name.removesuffix(".png") for name in names]
    assert len(list(read_side(classes, "labels"))) == len(list(read_images(classes))) == 4
    assert len(list(image_set(classes)[1])) == 4
    images = WholeImages(classes, side=8)
    assert (images.count, images.names) == (4, ["cats", "dogs"])
    assert fingerprint(classes).startswith("4 images")
    assert [pair.name for pair in find_pairs(classes / "cats", classes / "cats", 1)] == ["0", "1"]
    assert not gankit_log.records


def test_a_folder_of_hidden_files_alone_holds_no_images(tmp_path):
    (tmp_path / "._a.png").write_bytes(APPLE_DOUBLE)
    with pytest.raises(UsageError, match="no images there"):
        image_files(tmp_path)
    assert not is_data(tmp_path / "__MACOSX", tmp_path)
    assert is_data(tmp_path / "MACOSX.png", tmp_path)


@pytest.mark.parametrize("depth", [8, 16])
def test_transparency_is_laid_on_white(tmp_path, depth):
    """The colours under it are noise, as editors leave them."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 4), np.uint8)
    pixels[..., 3] = 0
    pixels[2:6, 2:6] = (250, 200, 40, 255)
    pixels[3, 3] = (0, 0, 0, 51)  # a fifth of black
    path = tmp_path / "a.png"
    if depth == 8:
        Image.fromarray(pixels).save(path)
    else:
        from gankit.images import encode, from_array

        encode(from_array(pixels.astype(np.uint16) * 257), path)
    wanted = np.full((8, 8, 3), 255, np.uint8)
    wanted[2:6, 2:6] = (250, 200, 40)
    wanted[3, 3] = 204
    assert np.array_equal(read_side(tmp_path)["a"], wanted)
    assert np.array_equal(next(iter(read_images(tmp_path))), wanted)
    assert np.array_equal(read_rgb(path), wanted)
    assert np.array_equal(next(image_set(tmp_path)[1])[0], wanted)
    seen, _ = WholeImages(tmp_path, side=8, colours=3)[0]
    assert np.array_equal(((seen.numpy() + 1) * 127.5).round().transpose(1, 2, 0), wanted)


def test_gray_with_transparency_stays_gray(tmp_path):
    Image.fromarray(np.dstack([np.zeros((4, 4), np.uint8), np.eye(4, dtype=np.uint8) * 255])).save(tmp_path / "a.png")
    assert np.array_equal(read_side(tmp_path)["a"][..., 0], 255 - np.eye(4, dtype=np.uint8) * 255)
