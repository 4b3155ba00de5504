"""Parity, manifest, and that only what is proven is kept."""

import dataclasses
import json
import math
from importlib.metadata import PackageNotFoundError

import numpy as np
import onnx
import pytest
import torch
from gankit_export import manifest as manifests
from gankit_export.artefact import ParityFailedError, Source, make_onnx
from gankit_export.onnx import export_onnx
from gankit_export.parity import SHAPES, compare, measure, open_file, samples
from gankit_export.precision import typed
from gankit_export.rewrites import for_inference
from torch import nn

from tests.export.networks_export import small_srresnet

SOURCE = Source("srgan", "w.safetensors", "ab" * 32, {"blocks": 2}, scale=4, versions={"gankit": "1.2.3"})


@pytest.fixture(scope="module")
def batches():
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    whole, tiny, _ = samples([image])
    return [tiny, np.ascontiguousarray(whole[:, :, :17, :23])]


def test_compare_against_skimage():
    from skimage.metrics import peak_signal_noise_ratio

    rng = np.random.default_rng(0)
    a, b = rng.random((1, 3, 9, 9)), rng.random((1, 3, 9, 9))
    assert compare(a, b)[0] == pytest.approx(peak_signal_noise_ratio(b, a, data_range=1))
    assert compare(a * 2 - 1, b * 2 - 1, (-1, 1))[0] == pytest.approx(compare(a, b)[0])
    assert compare(a, a) == (math.inf, 0)
    assert compare(a + 10, np.ones_like(a))[0] == math.inf, "clamped: it is saved as white"
    a[0, 0, 0, 0] = np.nan
    assert compare(a, b) == (-math.inf, math.inf)
    with pytest.raises(ValueError, match="gives"):
        compare(a, b[..., 1:])


def test_samples():
    rng = np.random.default_rng(0)
    small, deep = rng.integers(0, 256, (5, 300, 3), dtype=np.uint8), rng.integers(0, 65536, (200, 300, 3), np.uint16)
    cut = samples([small, deep])
    assert [item.shape for item in cut] == [(1, 3, *sides) for sides in SHAPES]
    assert all(item.dtype == np.float32 and item.min() >= 0 and item.max() <= 1 for item in cut)
    np.testing.assert_allclose(cut[1][0, :, 0, 0], deep[84, 134] / 65535, rtol=1e-6)
    assert len(samples([deep] * 5)) == 5
    (first, *_) = samples([deep], channels=1, multiple=64, value_range=(-1, 1))
    assert first.shape == (1, 1, 192, 256)
    assert first.min() < -0.5


@pytest.mark.parametrize(
    ("precision", "least", "half"),
    [
        ("fp32", 110, 0),
        pytest.param("fp16", 60, 9, marks=pytest.mark.slow),
        pytest.param("bf16", 45, 9, marks=pytest.mark.slow),
    ],
)
def test_make(tmp_path, batches, precision, least, half):
    if precision == "bf16":
        pytest.importorskip("openvino")
    path = tmp_path / "new" / "x.onnx"
    made = make_onnx(small_srresnet(), SOURCE, path, batches, precision=precision, images=["cat.png"])
    assert sorted(item.name for item in path.parent.iterdir()) == ["x.onnx", "x.onnx.json"]
    assert manifests.read(path) == made
    assert all(item.worst > least for item in made.parity)
    assert [item.shape for item in made.parity] == [batch.shape for batch in batches]
    assert made.half_convolutions == (half, 9)
    assert made.versions["torch"] == torch.__version__.partition("+")[0] or "+" in made.versions["torch"]
    assert made.versions["gankit"] == "1.2.3"
    described = {item.key: item.value for item in onnx.load(path).metadata_props}
    wanted = {"model": "srgan", "weights_sha256": "ab" * 32, "precision": precision, "scale": "4", "channels": "3"}
    wanted |= {"value_range": "[0.0, 1.0]", "colour_order": "RGB", "layout": "NCHW", "multiple": "1", "minimum": "1"}
    assert wanted.items() <= described.items()
    assert described["gankit_version"] == "1.2.3"
    content = json.loads((path.parent / "x.onnx.json").read_text())
    assert content["precision"] == precision
    assert content["images"] == ["cat.png"]
    assert content["sha256"] == manifests.sha256(path)


@pytest.mark.slow
def test_failed_parity_keeps_nothing_and_harms_nothing(tmp_path, batches):
    path = tmp_path / "x.onnx"
    with pytest.raises(ParityFailedError, match=r"fp16 reaches .* dB at .*, 200 dB are needed") as caught:
        make_onnx(small_srresnet(), SOURCE, path, batches, precision="fp16", threshold=200)
    assert len(caught.value.manifest.parity) == 2
    assert not list(tmp_path.iterdir())
    path.write_text("what was there")
    with pytest.raises(ParityFailedError):
        make_onnx(small_srresnet(), SOURCE, path, batches, precision="fp16", threshold=200)
    assert [item.read_text() for item in tmp_path.iterdir()] == ["what was there"]


class _Loud(nn.Module):
    """The identity; its inner values do not fit fp16, though all weights (exactly) and the result do."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False)
        self.up.weight.data.copy_(torch.eye(3)[..., None, None] * 2**14)
        self.mid = nn.Conv2d(3, 3, 1, bias=False)
        self.mid.weight.data.copy_(torch.eye(3)[..., None, None] * 2**6)
        self.down.weight.data.copy_(torch.eye(3)[..., None, None] * 2**-20)

    def forward(self, x):
        return self.down(self.mid(self.up(x)))


@pytest.mark.slow
def test_overflow_that_onnx_runtime_does_not_see_is_seen(tmp_path, batches):
    module, narrow = _Loud().eval(), typed(_Loud(), "fp16")
    export_onnx(narrow, tmp_path / "x.onnx")
    (figures, _) = measure(open_file(tmp_path / "x.onnx", "onnxruntime"), module, narrow, batches)
    assert figures.worst == -math.inf
    with pytest.raises(ParityFailedError, match="-inf dB"):
        make_onnx(module, dataclasses.replace(SOURCE, scale=1), tmp_path / "y.onnx", batches, precision="fp16")


class _Judging(nn.Module):
    """A forward pass that goes by the sizes, so that it has no symbolic graph."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.conv(x) if x.shape[1] == 3 else x


def test_a_network_that_cannot_be_rewritten_is_exported_as_it_is(tmp_path, batches):
    with pytest.raises(ValueError, match="cannot be traced"):
        for_inference(_Judging())
    made = make_onnx(_Judging().eval(), dataclasses.replace(SOURCE, scale=1), tmp_path / "x.onnx", batches)
    assert made.half_convolutions == (0, 1)
    assert all(item.worst > 110 for item in made.parity)


def test_the_version_of_the_runtime_whatever_its_package_is_called(monkeypatch):
    def version(name):
        if name in ("onnxruntime-gpu", "torch"):
            return "1.2"
        raise PackageNotFoundError

    monkeypatch.setattr(manifests, "version", version)
    found = manifests.versions("torch", "onnx", "onnxruntime", "openvino")
    assert found == {"torch": "1.2", "onnxruntime-gpu": "1.2"}


@pytest.mark.slow
def test_a_manifest_of_before_images_were_named(tmp_path, batches):
    made = make_onnx(small_srresnet(2, 8), SOURCE, tmp_path / "x.onnx", batches[:1])
    content = json.loads(made.to_json())
    del content["images"]
    assert manifests.Manifest.from_json(json.dumps(content)) == made


def test_manifest_round_trip_and_damage(tmp_path, batches):
    path = tmp_path / "x.onnx"
    made = make_onnx(small_srresnet(2, 8), SOURCE, path, batches[:1])
    odd = dataclasses.replace(made, parity=(dataclasses.replace(made.parity[0], psnr=math.inf, eager_psnr=-math.inf),))
    assert manifests.Manifest.from_json(odd.to_json()) == odd
    for text in ("", "[]", "{}", made.to_json().replace('"format": 1', '"format": 99')):
        with pytest.raises(ValueError, match="not a manifest"):
            manifests.Manifest.from_json(text)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ValueError, match="differs from the checksum"):
        manifests.read(path)
