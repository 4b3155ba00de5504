"""Streaming in bands gives the pixels of the whole picture, for any picture and any band."""

import pytest
import torch
from gankit_export.rewrites import for_inference, trace
from torch import nn
from torch.nn import functional as F

from gankit.backends.stages import build_stages
from gankit.backends.streaming import NotStreamableError, ResidualChain, Stream
from tests.networks import small_srgan


def streamed(module, picture, scale, band_bytes):
    stream = Stream(module, band_bytes)
    canvas = torch.full((1, 3, picture.shape[2] * scale, picture.shape[3] * scale), torch.nan)

    def write(rows, row):
        canvas[:, :, row : row + rows.shape[2]] = rows

    with torch.inference_mode():
        for _ in range(2):  # the second picture must not see the first
            stream.run(picture, lambda rows: rows, write)
    return canvas


@pytest.mark.parametrize("band_bytes", [1, 20_000, 1 << 30])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3), (17, 40), (33, 16), (131, 12)])
@pytest.mark.parametrize("scale", [2, 4])
def test_bands_equal_the_whole(scale, size, band_bytes):
    net = small_srgan(scale=scale, channels=8, blocks=3)
    picture = torch.rand(1, 3, *size)
    with torch.no_grad():
        expected = net(picture)
    torch.testing.assert_close(streamed(for_inference(net), picture, scale, band_bytes), expected, rtol=0, atol=2e-6)


def test_residual_blocks_become_one_stage():
    _, _, stages = build_stages(for_inference(small_srgan(blocks=5)), 1 << 20)
    chains = [stage for stage in stages if isinstance(stage, ResidualChain)]
    assert len(chains) == 1
    assert len(chains[0]._blocks) == 5


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


@pytest.mark.parametrize("band_bytes", [1, 3000, 1 << 30])
def test_dense_networks_stream(band_bytes):
    torch.manual_seed(0)
    net, picture = Dense().eval(), torch.rand(1, 3, 70, 11)
    with torch.no_grad():
        expected = net(picture)
    torch.testing.assert_close(streamed(trace(net), picture, 2, band_bytes), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.InstanceNorm2d(3)),
        nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect")),
        nn.Sequential(nn.Conv2d(3, 3, 4, padding=1)),
        nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, stride=2)),
    ],
)
def test_what_needs_more_than_bands_is_refused(net):
    with pytest.raises(NotStreamableError):
        Stream(trace(net.eval()))


def test_memory_does_not_grow_with_the_height(monkeypatch):
    """The largest tensor of a tall picture is that of a short one: nothing holds more than a few bands."""
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
