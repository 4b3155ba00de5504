"""Whole images to learn from: values, order, classes, sizes, broken files."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image
from test_idx import idx

from gankit.datasets.pixels import fitted
from gankit.datasets.whole_images import WholeImages
from gankit.errors import UsageError
from gankit.training.loader import batches


@pytest.fixture
def official(tmp_path):
    """Five images of one value each, with their classes."""
    values = np.array([0, 50, 100, 150, 255], np.uint8)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.broadcast_to(values[:, None, None], (5, 8, 8)).copy()))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.arange(5, dtype=np.uint8)))
    return tmp_path


def test_items_are_the_files_images_in_the_range(official):
    data = WholeImages(official, side=8)
    assert (data.count, data.names) == (5, ["0", "1", "2", "3", "4"])
    items = [data[index] for index in range(5)]
    found = {class_: image.unique().tolist() for image, class_ in items}
    wanted = {class_: [pytest.approx(value / 127.5 - 1)] for class_, value in enumerate((0, 50, 100, 150, 255))}
    assert found == wanted
    assert items[0][0].shape == (1, 8, 8)
    assert items[0][0].dtype == torch.float32


def test_every_round_has_all_images_in_another_order(official):
    data = WholeImages(official, side=8)
    rounds = [[data[5 * turn + index][1] for index in range(5)] for turn in range(6)]
    assert all(sorted(order) == list(range(5)) for order in rounds)
    assert len({tuple(order) for order in rounds}) > 3


def test_an_item_depends_on_seed_and_number_alone(official):
    first, second, other = (WholeImages(official, side=8, seed=seed) for seed in (0, 0, 1))
    assert [first[i][1] for i in range(50)] == [second[i][1] for i in reversed(range(50))][::-1]
    assert [first[i][1] for i in range(50)] != [other[i][1] for i in range(50)]


def test_workers_and_resumed_streams_change_nothing(official):
    data = WholeImages(official, side=8)
    alone, resumed = batches(data, 4, 0), batches(data, 4, 2)
    seen = [next(alone) for _ in range(4)]
    assert torch.equal(next(resumed)[0], seen[2][0])
    helped = batches(data, 4, 0, workers=1)
    assert all(torch.equal(next(helped)[0], batch[0]) for batch in seen)


def test_mirrored(tmp_path):
    ramp = np.broadcast_to(np.arange(8, dtype=np.uint8) * 30, (1, 8, 8)).copy()
    (tmp_path / "images-ubyte").write_bytes(idx(ramp))
    data = WholeImages(tmp_path / "images-ubyte", side=8, mirror=True)
    falling = sum(bool(data[index][0][0, 0, 0] > data[index][0][0, 0, -1]) for index in range(200))
    assert 70 < falling < 130
    assert not any(WholeImages(tmp_path / "images-ubyte", side=8)[index][0][0, 0, 0] > -0.9 for index in range(50))


def test_fitted_sizes():
    image = np.zeros((6, 4), np.uint8)
    image[1:5] = 200  # the middle square
    padded = fitted(image, 8, "pad")
    assert padded.shape == (8, 8)
    np.testing.assert_array_equal(padded[1:7, 2:6], image)
    assert padded.sum() == image.sum(dtype=int)
    resized = fitted(image, 2, "resize")
    assert resized.shape == (2, 2)
    assert (resized == 200).all()
    assert fitted(np.zeros((9, 5, 3), np.uint8), 4, "resize").shape == (4, 4, 3)
    with pytest.raises(ValueError, match="cannot be padded"):
        fitted(image, 5, "pad")


def test_a_folder_with_classes_and_a_broken_file(tmp_path, caplog):
    for name, value in (("a", 30), ("b", 220)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (20, 10), (value, 0, 0)).save(tmp_path / name / "1.png")
    (tmp_path / "b/0.png").write_bytes(b"no image")
    data = WholeImages(tmp_path, side=8, colours=3)
    assert (data.names, data.count) == (["a", "b"], 3)
    with caplog.at_level(logging.WARNING):
        found = {
            (round(float(image[0].mean() + 1) * 127.5), class_) for image, class_ in map(data.__getitem__, range(9))
        }
    assert found == {(30, 0), (220, 1)}
    assert caplog.text.count("0.png") == 1
    gray, _ = WholeImages(tmp_path, side=8)[0]
    assert gray.shape == (1, 8, 8)


def test_images_outside_sub_folders_have_no_classes(tmp_path):
    (tmp_path / "a").mkdir()
    for path in ("a/1.png", "2.png"):
        Image.new("L", (8, 8)).save(tmp_path / path)
    data = WholeImages(tmp_path, side=8)
    assert data.names == []
    assert data[0][1] == 0


def test_nothing_to_read(tmp_path):
    with pytest.raises(UsageError, match="no images there"):
        WholeImages(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match="none of its images can be read"):
        WholeImages(tmp_path)
    with pytest.raises(UsageError, match="is not an IDX file"):
        WholeImages(tmp_path / "a.png")
