"""OpenVINO makes the same image of a network whole and in segments, and the faster way is remembered."""

import numpy as np
import pytest
import torch
from gankit_export.onnx import export_onnx
from torch import nn

pytest.importorskip("openvino")

from gankit import backends
from gankit.backends.base import EngineSpec
from gankit.backends.choice.parity import reference
from gankit.backends.open_vino_cuts import up
from gankit.backends.open_vino_segments import CutGraph, Cutting, SegmentedGraph, even_side, spans
from gankit.checkpoints import open_model
from gankit.models import build, facts
from gankit.models.facts import Facts
from tests.networks import small_srgan
from tests.variants import others_slow

SMALL = 1 << 15  # values of a tile of about 36 pixels in networks of 8 channels
SHAPES = [(97, 203), (64, 64), (36, 36), (9, 7), (1, 300), (300, 1), (2, 90)]
MODELS = {
    "edsr": {"blocks": 3, "channels": 8, "overshoot": 0.5},
    "edsr of three": {"blocks": 2, "channels": 8, "scale": 3, "tail": "edsr"},
    "srgan": {"scale": 4, "channels": 8, "blocks": 3},
    "esrgan": {"blocks": 1, "channels": 8, "growth": 4},
    "srvgg": {"channels": 8, "convs": 5},
}


class Strided(nn.Module):
    """Layers that the models lack: strides, dilation, wide kernels, pooling, resampling, transposed convolutions."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Conv2d(3, 8, (3, 7), padding=(1, 3))
        self.down = nn.Conv2d(8, 8, 4, stride=2, padding=1)
        self.dilated = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2)
        self.pool, self.mean = nn.MaxPool2d(2), nn.AvgPool2d(3, 1, 1)
        self.act = nn.PReLU(8)
        self.up = nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1)
        self.enlarge = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.last = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x):
        """(N, 3, H, W) to the same shape, of sides that are multiples of 4."""
        head = self.wide(x)
        body = self.act(self.dilated(self.down(head)))
        body = body + self.up(self.mean(self.pool(body)))
        return torch.sigmoid(self.last(torch.cat([head, self.enlarge(body)], 1)))


STRIDED = Facts(task="translate", value_range=(-1, 1), name="strided", multiple=4)


def network(name):
    """A module with its facts."""
    torch.manual_seed(0)
    if name == "strided":
        return Strided().eval(), STRIDED
    model = name.partition(" ")[0]
    net = small_srgan(**MODELS[name]) if model == "srgan" else build(model, MODELS[name]).eval()
    return net, facts(model, MODELS[name])


@pytest.fixture(scope="module")
def opened():
    """Engines and their graphs by the name of the network, made once."""
    made = {}

    def get(name):
        if name not in made:
            net, known = network(name)
            engine = backends.get("openvino").load(EngineSpec(net, known, threads=2))
            made[name] = net, known, engine, CutGraph.of(engine.read(), known, bf16=False)
        return made[name]

    yield get
    for _, _, engine, _ in made.values():
        engine.close()


def pixels(height, width, dtype=np.float32, multiple=1, count=1):
    """Random images (N, H, W, 3)."""
    shape = (count, up(height, multiple), up(width, multiple), 3)
    values = np.random.default_rng(3).random(shape, dtype=np.float32)
    return values if dtype == np.float32 else (values * np.iinfo(dtype).max).astype(dtype)


def run(graph, engine, images, cutting):
    """Run images in segments; return the result and the segments."""
    segmented = SegmentedGraph(graph, cutting, engine.settings, images.dtype)
    try:
        return segmented.run(images), segmented.segments
    finally:
        segmented.close()


@pytest.mark.parametrize("name", others_slow(["edsr", "strided", *list(MODELS)[1:]]))
def test_segments_make_the_image_of_the_whole_network(name, opened):
    net, known, engine, graph = opened(name)
    counts = []
    for cutting in (Cutting(SMALL, 1000, 2), Cutting(SMALL, 10, 1)):
        segmented = SegmentedGraph(graph, cutting, engine.settings, np.dtype(np.float32))
        for height, width in SHAPES:
            images = pixels(height, width, multiple=known.multiple)
            result = segmented.run(images)
            np.testing.assert_allclose(result, engine.whole(images), rtol=0, atol=1e-5)
            if name != "strided":
                wanted = reference(net, torch.from_numpy(images.transpose(0, 3, 1, 2)))
                np.testing.assert_allclose(result.transpose(0, 3, 1, 2), wanted.numpy(), rtol=0, atol=1e-5)
        segmented.close()
        counts.append(len(segmented.segments))
        assert max(segment.side for segment in segmented.segments) < 203  # the widest image is cut
    assert counts[0] < counts[1]


def test_deeper_segments_are_fewer(opened):
    _, _, _, graph = opened("edsr")
    counts = [len(graph.layers.cut(SMALL, moved)) for moved in (1, 100, 10_000)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_of_several_images_compiled_for_one_shape(dtype, opened):
    _, _, engine, graph = opened("edsr")
    images = pixels(70, 81, dtype, count=3)
    result, _ = run(graph, engine, images, Cutting(SMALL, 10, 2, static=True))
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, engine.whole(images))


def test_feature_maps_in_bf16_round_and_no_more(opened):
    _, known, engine, exact = opened("srvgg")
    graph = CutGraph.of(engine.read(), known, bf16=True)
    images = pixels(70, 81)
    wanted, segments = run(exact, engine, images, Cutting(SMALL, 10, 1))
    result, _ = run(graph, engine, images, Cutting(SMALL, 10, 1))
    error = float(np.sqrt(np.mean(np.square(result - wanted))))
    assert len(segments) > 2
    assert 0 < error < 0.01


@pytest.mark.slow
def test_a_foreign_checkpoint(data):
    loaded = open_model(data / "checkpoints" / "realesr_animevideov3_x4.pth")
    with backends.get("openvino").load(EngineSpec(loaded.module, loaded.facts, threads=2)) as engine:
        graph = CutGraph.of(engine.read(), loaded.facts, bf16=False)
        images = pixels(61, 120)
        result, segments = run(graph, engine, images, Cutting(1 << 18, 150, 2))
        assert len(segments) > 2
        np.testing.assert_allclose(result, engine.whole(images), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_an_exported_file(tmp_path):
    net, _ = network("edsr")
    export_onnx(net, tmp_path / "net.onnx")  # by the exporter that spells layers otherwise
    loaded = open_model(tmp_path / "net.onnx")
    with backends.get("openvino").load(EngineSpec(loaded.module, loaded.facts, threads=2)) as engine:
        graph = CutGraph.of(engine.read(), loaded.facts, bf16=False)
        images = pixels(61, 120)
        result, segments = run(graph, engine, images, Cutting(SMALL, 10, 2))
        assert len(segments) > 2
        np.testing.assert_allclose(result, engine.whole(images), rtol=0, atol=1e-5)


class Padded(nn.Sequential):
    """A reflected border: the sizes do not grow in proportion."""

    def __init__(self):
        super().__init__(nn.ReflectionPad2d(1), nn.Conv2d(3, 3, 3))


class Mean(nn.Module):
    """A mean over the whole image."""

    def forward(self, x):
        """(N, 3, H, W) to the same shape."""
        return x - nn.functional.adaptive_avg_pool2d(x, 1)


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(Padded, id="reflection"),
        pytest.param(Mean, id="mean"),
        pytest.param(lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.InstanceNorm2d(4)), id="norm"),
        pytest.param(lambda: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), id="corners"),
    ],
)
def test_a_network_that_sees_the_whole_image_stays_whole(module, tmp_path):
    import openvino

    export_onnx(module().eval(), tmp_path / "net.onnx", quick=True)
    known = Facts(task="translate", value_range=(0, 1), name="net", tileable=False)
    assert CutGraph.of(openvino.Core().read_model(tmp_path / "net.onnx"), known, bf16=False) is None


@pytest.mark.parametrize("unit", [1, 4])
@pytest.mark.parametrize(
    ("length", "side", "halo"), [(768, 147, 4), (768, 209, 8), (49, 48, 4), (40, 48, 8), (1, 40, 0)]
)
def test_tiles_keep_every_pixel_once_and_their_halo(length, side, halo, unit):
    length = up(length, unit)
    even = even_side(length, up(side, unit), halo, unit)
    found = spans(length, even, halo)
    assert even % unit == 0
    assert [span.keep for span in found] == [0, *(span.stop for span in found[:-1])]
    assert found[-1].stop == length
    for span in found:
        assert 0 <= span.start <= length - even
        assert span.keep - span.start >= halo or span.keep == 0
        assert span.start + even - span.stop >= halo or span.stop == length
