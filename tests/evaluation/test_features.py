import sys

import numpy as np
import pytest
import torch
from PIL import Image

from gankit.errors import BackendError, CheckpointError, UsageError
from gankit.evaluation.classifier import Classifier, save_classifier
from gankit.evaluation.features import FeatureNetwork, open_features
from tests.evaluation.evaluation_making import onnx_file


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 12, 10, 3), np.uint8)


def seen_by(size: tuple[int, int] | None, channels: int):
    """A network whose features are its input."""
    return FeatureNetwork("seen", lambda x: (x.flatten(1), None), size, channels)


def test_pixels_arrive_in_0_to_1(images):
    found = seen_by(None, 3)([images[:3], images[3:]])
    np.testing.assert_allclose(found.values, images.transpose(0, 3, 1, 2).reshape(7, -1) / 255, atol=1e-7)
    assert found.values.dtype == np.float64
    assert (len(found), found.logits, found.resize) == (7, None, "none")


def test_many_images_run_in_parts():
    many = np.zeros((1203, 2, 2, 1), np.uint8)
    many[:, 0, 0, 0] = np.arange(1203) % 251
    parts = []
    network = FeatureNetwork("parts", lambda x: (parts.append(len(x)) or x.flatten(1), x.flatten(1)), None, 1)
    found = network([many])
    assert parts == [500, 500, 203]
    np.testing.assert_allclose(found.values[:, 0] * 255, np.arange(1203) % 251, atol=1e-4)
    np.testing.assert_array_equal(found.values, found.logits)


def test_colours_become_the_networks(images):
    gray = seen_by(None, 1)([images]).values.reshape(7, 12, 10) * 255
    wanted = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images])
    assert np.abs(gray - wanted).max() <= 1.001
    three = seen_by(None, 3)([images[..., :1]]).values.reshape(7, 3, -1)
    np.testing.assert_array_equal(three[:, 0], three[:, 2])


def test_other_sizes_are_resized_and_the_table_says_so(images):
    found = seen_by((6, 5), 3)([images])
    assert found.resize == "antialiased bicubic to 5×6"
    wanted = np.asarray(Image.fromarray(images[4]).resize((5, 6), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(found.values[4] * 255, wanted.transpose(2, 0, 1).ravel(), atol=1e-4)
    assert seen_by((12, 10), 3)([images]).resize == "none"


def test_padded_images_are_cropped(images):
    found = seen_by((8, 6), 3)([images], "crop")
    assert found.resize == "middle 6×8 cropped"
    np.testing.assert_allclose(found.values * 255, images[:, 2:10, 2:8].transpose(0, 3, 1, 2).reshape(7, -1), atol=1e-4)
    with pytest.raises(UsageError, match="10×12 cannot be cropped to 10×13"):
        seen_by((13, 10), 3)([images], "crop")


def test_no_images_are_refused():
    with pytest.raises(UsageError, match="no images to measure"):
        seen_by(None, 1)([])


@pytest.mark.parametrize("shape", [["n", 3, "h", "w"], ["n", 3, 12, 10], [3, 3, 12, 10], [1, 3, 12, 10]])
def test_onnx(tmp_path, images, shape):
    network = open_features(onnx_file(tmp_path / "means.onnx", shape, logits=True))
    found = network([images])
    wanted = images.mean(axis=(1, 2)) / 255
    np.testing.assert_allclose(found.values, wanted, atol=1e-6)
    np.testing.assert_allclose(found.logits, 2 * wanted, atol=1e-6)
    assert (network.name, len(network.sha256), network.inception) == ("means.onnx", 64, False)


def test_onnx_of_another_size_gets_what_it_wants(tmp_path, images):
    found = open_features(onnx_file(tmp_path / "m.onnx", ["n", 1, 6, 6]))([images])
    assert found.values.shape == (7, 1)
    assert found.logits is None
    assert found.resize == "antialiased bicubic to 6×6"


def test_features_with_places_are_averaged(tmp_path, images):
    found = open_features(onnx_file(tmp_path / "m.onnx", ["n", 3, "h", "w"], flat=False))([images])
    np.testing.assert_allclose(found.values, images.mean(axis=(1, 2)) / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "message"), [(["n", 4, 8, 8], "1 or 3, H, W"), (["n", 8], "1 or 3, H, W"), (None, "cannot open it")]
)
def test_wrong_onnx_files_are_refused(tmp_path, shape, message):
    path = tmp_path / "wrong.onnx"
    path.write_bytes(b"no onnx") if shape is None else onnx_file(path, shape, flat=False)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_features(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_missing_files_and_runtimes(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match=r"none\.onnx: no such file"):
        open_features(tmp_path / "none.onnx")
    with pytest.raises(CheckpointError, match="no such file"):
        open_features(tmp_path / "none.safetensors")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match=r"pip install 'gankit\[cpu\]'"):
        open_features(tmp_path / "none.onnx")


def test_a_classifiers_file(tmp_path):
    torch.manual_seed(0)
    net = Classifier((4, 6), classes=3).eval()
    notes = {"accuracy": "0.9123", "test": "the 9 images of t"}
    sha256 = save_classifier(tmp_path / "c.safetensors", net, notes)
    network = open_features(tmp_path / "c.safetensors")
    assert network.note == "91.23% right on the 9 images of t"
    assert network.sha256 == sha256
    x = np.random.default_rng(1).integers(0, 256, (5, 28, 28, 1), np.uint8)
    found = network([x])
    assert (found.values.shape, found.logits.shape, found.resize) == ((5, 6), (5, 3), "none")
    wanted = net(torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255).detach()
    np.testing.assert_allclose(found.logits, wanted, atol=2e-3)  # kernels are stored in fp16
