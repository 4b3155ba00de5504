"""Inception by a stand-in for torch-fidelity: what it is given, and every way in which it can be missing."""

import sys
import types

import numpy as np
import pytest
import torch

from gankit.errors import BackendError, CheckpointError
from gankit.evaluation.inception import open_inception
from gankit.evaluation.samples import SampleNames, measure_samples

MODULE = "torch_fidelity.feature_extractor_inceptionv3"


@pytest.fixture
def fidelity(monkeypatch):
    """Features are the channels' sums, logits their negatives."""

    class FeatureExtractorInceptionV3(torch.nn.Module):
        def __init__(self, name, features_list, feature_extractor_weights_path):
            super().__init__()
            assert features_list == ["2048", "logits_unbiased"]
            state = torch.load(feature_extractor_weights_path, weights_only=False)
            if set(state) != {"fc.weight"}:
                raise RuntimeError("Error(s) in loading state_dict\n\tMissing key(s)")
            self.weight = state["fc.weight"]

        def forward(self, x):
            assert x.dtype == torch.uint8
            assert x.shape[1] == 3
            sums = x.float().sum((2, 3)) * self.weight
            return sums, -sums

    module = types.ModuleType(MODULE)
    module.FeatureExtractorInceptionV3 = FeatureExtractorInceptionV3
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, MODULE, module)


@pytest.fixture
def weights(tmp_path):
    torch.save({"fc.weight": torch.tensor(2.0)}, tmp_path / "inception.pth")
    return tmp_path / "inception.pth"


def test_bytes_go_in_and_names_come_out(fidelity, weights):
    network = open_inception(weights)
    images = np.random.default_rng(0).integers(0, 256, (9, 5, 4, 1), np.uint8)
    found = network([images])
    sums = 2.0 * images.sum((1, 2))
    np.testing.assert_array_equal(found.values, sums.repeat(3, 1))
    np.testing.assert_array_equal(found.logits, -sums.repeat(3, 1))
    assert found.resize == "bilinear to 299×299 without antialiasing, as TensorFlow 1"
    names = SampleNames.of(network)
    assert (names.frechet, names.kernel, names.score) == ("FID", "KID", "Inception score")
    keys = set(measure_samples(found, found).as_dict(names))
    assert {"fid", "kid", "kid_deviation", "inception_score", "inception_score_deviation", "n", "resize"} == keys


def test_nothing_in_the_file_is_run(fidelity, tmp_path):
    class Code:
        def __reduce__(self):
            return (exec, ("raise SystemExit('ran')",))

    torch.save({"fc.weight": Code()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="would run code"):
        open_inception(tmp_path / "evil.pth")


def test_other_weights_are_refused(fidelity, tmp_path):
    torch.save({"x": torch.ones(1)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"x\.pth: is not the Inception network of FID") as caught:
        open_inception(tmp_path / "x.pth")
    assert "\n" not in str(caught.value)


def test_missing_is_one_line(monkeypatch, weights):
    monkeypatch.setitem(sys.modules, MODULE, None)
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(BackendError, match=r"need torch-fidelity .*pip install 'gankit\[perceptual\]'"):
        open_inception(weights)


def test_broken_is_one_line(monkeypatch, weights):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "torch_fidelity":
                raise RuntimeError("operator torchvision::nms does not exist\nand more")

    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(BackendError, match=r"installed but broken .operator torchvision::nms") as caught:
        open_inception(weights)
    assert "\n" not in str(caught.value)
