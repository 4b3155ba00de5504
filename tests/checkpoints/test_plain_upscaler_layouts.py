"""Upscalers without norms, written from their publication: their files make their images."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gankit import models
from tests.checkpoints.published import conv, opened_equals, unlike_new

IMAGE = torch.rand(2, 3, 9, 13, generator=torch.Generator().manual_seed(1))
WIDTH, BLOCKS = 8, 3


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = conv(WIDTH, WIDTH), conv(WIDTH, WIDTH)

    def forward(self, x):
        return x + self.conv2(F.relu(self.conv1(x)))


class Pack(nn.Module):
    """mmagic's PixelShufflePack."""

    def __init__(self, step):
        super().__init__()
        self.step, self.upsample_conv = step, conv(WIDTH, WIDTH * step**2)

    def forward(self, x):
        return F.pixel_shuffle(self.upsample_conv(x), self.step)


BODIES = {"basicsr": ("body", "conv_hr"), "kair": ("recon_trunk", "HRconv"), "mmagic": ("trunk_net", "conv_hr")}


class MSRResNet(nn.Module):
    def __init__(self, project, scale):
        super().__init__()
        self.scale, self.steps, self.mmagic = scale, [2, 2] if scale == 4 else [scale], project == "mmagic"
        self.body_name, self.hr_name = BODIES[project]
        self.conv_first = conv(3, WIDTH)
        setattr(self, self.body_name, nn.Sequential(*(Block() for _ in range(BLOCKS))))
        for index, step in enumerate(self.steps, 1):
            name, layer = ("upsample", Pack(step)) if self.mmagic else ("upconv", conv(WIDTH, WIDTH * step**2))
            setattr(self, f"{name}{index}", layer)
        setattr(self, self.hr_name, conv(WIDTH, WIDTH))
        self.conv_last = conv(WIDTH, 3)

    def forward(self, x):
        y = getattr(self, self.body_name)(F.leaky_relu(self.conv_first(x), 0.1))
        for index, step in enumerate(self.steps, 1):
            if self.mmagic:
                y = getattr(self, f"upsample{index}")(y)
            else:
                y = F.leaky_relu(F.pixel_shuffle(getattr(self, f"upconv{index}")(y), step), 0.1)
        y = self.conv_last(F.leaky_relu(getattr(self, self.hr_name)(y), 0.1))
        return y + F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("project", ["basicsr", "kair", "mmagic"])
def test_msrresnet(tmp_path, project, scale):
    prefix = "generator." if project == "mmagic" else ""
    opened_equals(
        tmp_path / "a.pth",
        unlike_new(MSRResNet(project, scale)),
        {"scale": scale, "channels": WIDTH, "blocks": BLOCKS, "in_channels": 3, "activated": project != "mmagic"},
        IMAGE,
        wrap=lambda state: {"state_dict": {f"{prefix}{name}": value for name, value in state.items()}},
    )


class Numbered(nn.Module):
    """KAIR's ResBlock: layers 0 and 2 of ``res`` are convolutions."""

    def __init__(self):
        super().__init__()
        self.res = nn.Sequential(conv(WIDTH, WIDTH), nn.ReLU(), conv(WIDTH, WIDTH))

    def forward(self, x):
        return x + self.res(x)


class Sum(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.sub = inner

    def forward(self, x):
        return x + self.sub(x)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("upsampler", "steps"), [("nearest", [2, 2]), ("nearest", [2]), ("shuffle", [2, 2]), ("shuffle", [3])]
)
def test_msrresnet0(tmp_path, upsampler, steps, bias):
    layers = [conv(3, WIDTH), Sum(nn.Sequential(*(Numbered() for _ in range(BLOCKS)), conv(WIDTH, WIDTH)))]
    for step in steps:
        if upsampler == "nearest":
            layers += [nn.Upsample(scale_factor=step), conv(WIDTH, WIDTH), nn.ReLU()]
        else:
            layers += [conv(WIDTH, WIDTH * step**2), nn.PixelShuffle(step), nn.ReLU()]
    theirs = nn.Sequential()
    theirs.model = nn.Sequential(*layers, conv(WIDTH, WIDTH), nn.ReLU(), conv(WIDTH, 3, bias=bias))
    scale = 4 if len(steps) == 2 else steps[0]
    expect = {"scale": scale, "channels": WIDTH, "blocks": BLOCKS, "upsampler": upsampler}
    assert opened_equals(tmp_path / "a.pth", unlike_new(theirs), expect, IMAGE).facts.name == "msrresnet0"


ACTIVATIONS = {"prelu": lambda: nn.PReLU(WIDTH), "relu": nn.ReLU, "leaky": lambda: nn.LeakyReLU(0.1)}


class SRVGG(nn.Module):
    def __init__(self, scale, activation, colours=3):
        super().__init__()
        self.scale, self.body, width = scale, nn.ModuleList(), colours
        for _ in range(4):
            self.body.extend([conv(width, WIDTH), ACTIVATIONS[activation]()])
            width = WIDTH
        self.body.append(conv(WIDTH, colours * scale**2))

    def forward(self, x):
        y = x
        for layer in self.body:
            y = layer(y)
        return F.pixel_shuffle(y, self.scale) + F.interpolate(x, scale_factor=self.scale, mode="nearest")


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("activation", ["prelu", "relu"])
def test_srvgg(tmp_path, activation, scale, colours):
    expect = {"scale": scale, "channels": WIDTH, "convs": 3, "in_channels": colours, "activation": activation}
    theirs = unlike_new(SRVGG(scale, activation, colours))
    opened_equals(tmp_path / "a.pth", theirs, expect, IMAGE[:, :colours], wrap=lambda state: {"params": state})


def test_leaky_srvgg_is_an_option():
    """No key tells it from ReLU."""
    theirs = unlike_new(SRVGG(2, "leaky"))
    ours = models.build("srvgg", {"scale": 2, "channels": WIDTH, "convs": 3, "activation": "leaky"})
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(IMAGE), theirs(IMAGE), atol=1e-5, rtol=0)


def test_the_published_sizes():
    """As counted on the published files and networks."""

    def count(name, **options):
        return sum(parameter.numel() for parameter in models.build(name, options).parameters())

    assert count("srvgg") == 621_424  # realesr-animevideov3
    assert count("srvgg", convs=32) == 1_213_296  # realesr-general-x4v3
    assert count("msrresnet") == 1_517_571
    assert count("msrresnet0") == 1_332_928 + 3  # KAIR's last convolution has no bias
