"""Streaming in strips gives the pixels of the whole image, for any image and any strip."""

import weakref

import pytest
import torch
from gankit_export.precision import typed
from gankit_export.rewrites import for_inference, trace
from torch import nn
from torch.nn import functional as F

from gankit.backends.base import EngineSpec
from gankit.backends.choice.parity import compare
from gankit.backends.cpu.convolution import ResidualChain
from gankit.backends.cpu.instructions import bf16_on_cpu
from gankit.backends.cpu.stage import PointwiseStage
from gankit.backends.cpu.stages import build_stages
from gankit.backends.cpu.streaming import NotStreamableError, Stream
from gankit.backends.eager import EagerBackend
from gankit.models import build, facts
from tests.networks import small_srgan


def streamed(module, image, scale, strip_bytes):
    stream = Stream(module, strip_bytes)
    canvas = torch.full((1, 3, image.shape[2] * scale, image.shape[3] * scale), torch.nan)

    def write(rows, row):
        canvas[:, :, row : row + rows.shape[2]] = rows

    with torch.inference_mode():
        stream.run(torch.rand(1, 3, 35, 7).to(image), lambda rows: rows, lambda rows, row: None)  # must leave nothing
        stream.run(image, lambda rows: rows, write)
    return canvas


@pytest.mark.parametrize("strip_bytes", [1, 20_000, 1 << 30])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3), (17, 40), (33, 16), (131, 12)])
@pytest.mark.parametrize("scale", [2, 4])
def test_strips_equal_the_whole(scale, size, strip_bytes, monkeypatch):
    if scale == 2:  # few channels make every convolution outside of a block a sum of rows
        monkeypatch.setattr("gankit.backends.cpu.stages.by_rows", lambda conv: False)
    net = small_srgan(scale=scale, channels=8, blocks=3)
    image = torch.rand(1, 3, *size)
    with torch.no_grad():
        expected = net(image)
    torch.testing.assert_close(streamed(for_inference(net), image, scale, strip_bytes), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("height", [16, 17, 31, 33, 48, 90])
def test_a_chain_that_lags_by_more_than_a_strip(height):
    """16 blocks need 32 rows below theirs; a strip has 16, and some images end before the first row is out."""
    net, image = small_srgan(scale=2, channels=8, blocks=16), torch.rand(1, 3, height, 10)
    with torch.no_grad():
        expected = net(image)
    torch.testing.assert_close(streamed(for_inference(net), image, 2, 1), expected, rtol=0, atol=5e-6)


@pytest.mark.skipif(not bf16_on_cpu(), reason="this CPU has no bf16")
@pytest.mark.parametrize("blocks", [2, 16])
def test_strips_in_bf16_are_the_image_in_one_strip(blocks):
    """No value depends on where a strip ends; oneDNN may sum in another order for another number of rows."""
    net = typed(for_inference(small_srgan(scale=4, channels=16, blocks=blocks)), "bf16", float32_edges=False)
    image = torch.rand(1, 3, 75, 24).bfloat16().contiguous(memory_format=torch.channels_last)
    whole = streamed(net, image, 4, 1 << 30)
    with torch.no_grad():
        plain = net(image).float()
    for strip_bytes in (1, 20_000):
        strips = streamed(net, image, 4, strip_bytes)
        assert compare(strips, whole).psnr > 60
        assert compare(strips, whole).max_abs < 0.03  # a wrong row would be 0.1 and more
        assert compare(strips, plain).psnr > 45  # fused additions round once less than the layers one by one


def test_a_result_that_is_dropped_is_freed():
    options = {"scale": 2, "channels": 8, "blocks": 2}
    engine = EagerBackend().load(EngineSpec(small_srgan(**options), facts("srgan", options)))
    assert engine.wants == "images"
    result = engine.run(torch.zeros(1, 3, 40, 20, dtype=torch.uint8))
    gone = weakref.ref(result)
    del result
    assert gone() is None
    assert engine._stream._sink.write.__closure__ is None  # of the stream that all threads share


def test_an_image_that_fails_leaves_nothing_for_the_next():
    net, image = for_inference(small_srgan(scale=2, channels=8, blocks=3)), torch.rand(1, 3, 60, 9)
    stream, rows = Stream(net, 1), []

    def fails(part, row):
        raise MemoryError

    with torch.inference_mode():
        with pytest.raises(MemoryError):
            stream.run(torch.rand(1, 3, 60, 9), lambda part: part, fails)
        stream.run(image, lambda part: part, lambda part, row: rows.append(part.clone()))
        torch.testing.assert_close(torch.cat(rows, 2), net(image), rtol=0, atol=2e-6)


def test_residual_blocks_become_one_stage():
    _, _, stages = build_stages(for_inference(small_srgan(blocks=5)), 1 << 20)
    chains = [stage for stage in stages if isinstance(stage, ResidualChain)]
    assert len(chains) == 1
    assert len(chains[0]._blocks) == 5


@pytest.mark.parametrize("options", [{}, {"tail": "edsr", "res_scale": 0.1}])
def test_edsrs_blocks_become_one_stage(options):
    net = build("edsr", {"channels": 8, "blocks": 5, "scale": 2, **options}).eval()
    _, _, stages = build_stages(for_inference(net), 1 << 20)
    chains = [stage for stage in stages if isinstance(stage, ResidualChain)]
    assert [len(chain._blocks) for chain in chains] == [5]


@pytest.mark.parametrize("strip_bytes", [1, 1 << 30])
def test_an_enlarged_input_is_added_before_the_shuffle(strip_bytes):
    net = build("edsr", {"channels": 8, "blocks": 2, "scale": 3}).eval()
    module, image = for_inference(net), torch.rand(1, 3, 70, 9)
    _, _, stages = build_stages(module, strip_bytes)
    assert not [stage for stage in stages if isinstance(stage, PointwiseStage)]
    with torch.no_grad():
        expected = net(image)
    torch.testing.assert_close(streamed(module, image, 3, strip_bytes), expected, rtol=0, atol=2e-6)


class Dense(nn.Module):
    """Concatenation, nearest-neighbour enlargement and a skip over them: what RRDB is made of."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(7, 5, 5, padding=2)
        self.three, self.up = nn.Conv2d(12, 3, 3, padding=1), nn.Upsample(scale_factor=2, mode="nearest")
        self.act, self.last = nn.LeakyReLU(0.2), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        a = self.act(self.one(x))
        b = self.act(self.two(torch.cat([x, a], 1)))
        c = self.three(torch.cat([x, a, b], 1)) + x
        return self.last(self.up(c))


@pytest.mark.parametrize("strip_bytes", [1, 3000, 1 << 30])
def test_dense_networks_stream(strip_bytes):
    torch.manual_seed(0)
    net, image = Dense().eval(), torch.rand(1, 3, 70, 11)
    with torch.no_grad():
        expected = net(image)
    torch.testing.assert_close(streamed(trace(net), image, 2, strip_bytes), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.InstanceNorm2d(3)),
        nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect")),
        nn.Sequential(nn.Conv2d(3, 3, 4, padding=1)),
        nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, stride=2)),
        nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3, track_running_stats=False)),
    ],
)
def test_what_needs_more_than_strips_is_refused(net):
    with pytest.raises(NotStreamableError):
        Stream(trace(net.eval()))


def test_memory_does_not_grow_with_the_height(monkeypatch):
    """The largest tensor of a tall image is that of a short one: nothing holds more than a few strips."""
    net = for_inference(small_srgan(channels=8, blocks=1))
    largest = []
    real = F.pixel_shuffle

    def watched(x, factor):
        largest[-1] = max(largest[-1], x.numel())
        return real(x, factor)

    monkeypatch.setattr(F, "pixel_shuffle", watched)
    for height in (200, 800):
        largest.append(0)
        streamed(net, torch.rand(1, 3, height, 16), 4, 40_000)
    assert largest[0] > 0
    assert largest[1] <= largest[0] * 1.2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("output", ["tanh", "tanh-imagenet"])
def test_layers_behind_the_last_convolution_stream(output, precision):
    if precision == "bf16" and not bf16_on_cpu():
        pytest.skip("this CPU has no bf16")
    options = {"channels": 16, "blocks": 2, "values_in": "imagenet", "output": output}
    net = small_srgan(**options)
    engine = EagerBackend().load(EngineSpec(net, facts("srgan", options), precision, threads=1))
    assert engine.wants == "images"
    image = torch.rand(1, 3, 70, 33)
    with torch.no_grad():
        wanted = net(image)
    assert (engine.run(image) - wanted).abs().max() < (1e-5 if precision == "fp32" else 0.06)
    assert wanted.std() > 1e-3
