"""IDX files: what is read, and what a damaged one says."""

import gzip
import struct

import numpy as np
import pytest

from gankit.datasets.idx import is_idx, official_files, read_idx, read_labelled
from gankit.errors import UsageError


def idx(array, kind=0x08):
    """The bytes of an IDX file."""
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)


def test_plain_and_zipped_files_are_the_same(tmp_path, images):
    (tmp_path / "plain-ubyte").write_bytes(idx(images))
    (tmp_path / "zipped-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    for path in tmp_path.iterdir():
        assert is_idx(path)
        np.testing.assert_array_equal(read_idx(path), images)
    assert not is_idx(tmp_path / "a.png")


def test_labels_are_found_beside_the_images(tmp_path, images):
    labels = np.array([3, 1, 4, 1, 5], np.uint8)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(idx(images))
    assert read_labelled(path).classes is None
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    found = read_labelled(path)
    assert found.classes.tolist() == labels.tolist()
    assert official_files(tmp_path) == path
    assert official_files(tmp_path, "t10k") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an IDX file"),
        (b"\x89PNG....", "is not an IDX file"),
        (b"\0\0\x0d\3" + bytes(12), "holds values of type 0x0d"),
        (b"\0\0\x08\3\0\0", "cut short within its header"),
        (b"\0\0\x08\1\0\0\0\5ab", "cut short: it has 2 of 5 bytes"),
        (b"\0\0\x08\1\0\0\0\1ab", "too long"),
        (b"\0\0\x08\2" + b"\xff" * 8, "more than any IDX file has"),
        (gzip.compress(b"\0\0\x08\1\0\0\0\5abcde", mtime=0)[:-9], "gzip file is damaged or cut short"),
    ],
)
def test_damaged_files_are_named(tmp_path, content, message):
    path = tmp_path / "broken-ubyte"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as error:
        read_idx(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_do_not_belong_together(tmp_path, images):
    (tmp_path / "images-idx3-ubyte").write_bytes(idx(images))
    (tmp_path / "labels-idx1-ubyte").write_bytes(idx(np.zeros(4, np.uint8)))
    with pytest.raises(UsageError, match="for the 5 images"):
        read_labelled(tmp_path / "images-idx3-ubyte")
    with pytest.raises(UsageError, match="holds no images"):
        read_labelled(tmp_path / "labels-idx1-ubyte")
    with pytest.raises(UsageError, match="cannot be read"):
        read_labelled(tmp_path / "nothing-ubyte")
