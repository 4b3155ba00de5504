"""ESRGAN's RRDBNet as five projects name it, written from their publication: their files make their images."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gankit.checkpoints import open_model
from gankit.errors import CheckpointError
from tests.checkpoints.published import MEAN, STD, conv, opened_equals, unlike_new

IMAGE = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(1))
WIDTH, GROWTH, BLOCKS = 8, 4, 2


class Dense(nn.Module):
    """conv1 … conv5; xinntao's first code has each convolution in a Sequential."""

    def __init__(self, nested):
        super().__init__()
        for index in range(5):
            layer = conv(WIDTH + index * GROWTH, GROWTH if index < 4 else WIDTH)
            setattr(self, f"conv{index + 1}", nn.Sequential(layer) if nested else layer)

    def forward(self, x):
        made = x
        for index in range(1, 5):
            made = torch.cat((made, F.leaky_relu(getattr(self, f"conv{index}")(made), 0.2)), 1)
        return self.conv5(made) * 0.2 + x


class Block(nn.Module):
    def __init__(self, name, nested=False):
        super().__init__()
        self.name = name
        for index in (1, 2, 3):
            setattr(self, f"{name}{index}", Dense(nested))

    def forward(self, x):
        y = x
        for index in (1, 2, 3):
            y = getattr(self, f"{self.name}{index}")(y)
        return y * 0.2 + x


NAMES = {
    "xinntao": ("RRDB_trunk", "RDB", "trunk_conv", "upconv", "HRconv"),
    "basicsr": ("body", "rdb", "conv_body", "conv_up", "conv_hr"),
}


class RRDBNet(nn.Module):
    """The second code of xinntao's, and BasicSR's."""

    def __init__(self, names, fold=1):
        super().__init__()
        self.trunk, dense, self.neck, self.up, self.hr = names
        self.fold = fold
        self.conv_first = conv(3 * fold**2, WIDTH)
        setattr(self, self.trunk, nn.Sequential(*(Block(dense) for _ in range(BLOCKS))))
        for name in (self.neck, f"{self.up}1", f"{self.up}2", self.hr):
            setattr(self, name, conv(WIDTH, WIDTH))
        self.conv_last = conv(WIDTH, 3)

    def forward(self, x):
        if self.fold > 1:  # written out, as BasicSR does it
            n, c, h, w = x.shape
            x = x.view(n, c, h // self.fold, self.fold, w // self.fold, self.fold).permute(0, 1, 3, 5, 2, 4)
            x = x.reshape(n, c * self.fold**2, h // self.fold, w // self.fold)
        x = self.conv_first(x)
        x = x + getattr(self, self.neck)(getattr(self, self.trunk)(x))
        for name in (f"{self.up}1", f"{self.up}2"):
            x = F.leaky_relu(getattr(self, name)(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        return self.conv_last(F.leaky_relu(getattr(self, self.hr)(x), 0.2))


@pytest.mark.parametrize(("names", "fold"), [("xinntao", 1), ("basicsr", 1), ("basicsr", 2), ("basicsr", 4)])
def test_xinntao_and_basicsr(tmp_path, names, fold):
    loaded = opened_equals(
        tmp_path / "a.pth",
        unlike_new(RRDBNet(NAMES[names], fold)),
        {"scale": 4 // fold, "channels": WIDTH, "growth": GROWTH, "blocks": BLOCKS, "unshuffle": fold},
        IMAGE,
        wrap=lambda state: {"params_ema": state},
    )
    assert loaded.facts.multiple == fold
    assert loaded.facts.channels == 3


def test_the_published_size(tmp_path):
    """RealESRGAN_x4plus has 702 tensors and 16 697 987 parameters."""
    from gankit import models

    net = models.build("esrgan")
    assert len(net.state_dict()) == 702
    assert sum(parameter.numel() for parameter in net.parameters()) == 16_697_987


class Sum(nn.Module):
    """xinntao's ShortcutBlock."""

    def __init__(self, inner):
        super().__init__()
        self.sub = inner

    def forward(self, x):
        return x + self.sub(x)


def first_code(stages, upsampler):
    """Everything in one Sequential, flattened, so that the layers are numbered through."""
    body = Sum(nn.Sequential(*(Block("RDB", nested=True) for _ in range(BLOCKS)), conv(WIDTH, WIDTH)))
    layers = [conv(3, WIDTH), body]
    for _ in range(stages):
        if upsampler == "nearest":
            layers += [nn.Upsample(scale_factor=2, mode="nearest"), conv(WIDTH, WIDTH), nn.LeakyReLU(0.2)]
        else:
            layers += [conv(WIDTH, WIDTH * 4), nn.PixelShuffle(2), nn.LeakyReLU(0.2)]
    layers += [conv(WIDTH, WIDTH), nn.LeakyReLU(0.2), conv(WIDTH, 3)]
    net = nn.Module()
    net.model = nn.Sequential(*layers)
    net.forward = net.model.forward
    return unlike_new(net)


@pytest.mark.parametrize("upsampler", ["nearest", "shuffle"])
@pytest.mark.parametrize("stages", [0, 1, 2, 3])
def test_xinntao_first_code(tmp_path, stages, upsampler):
    expect = {"scale": 2**stages, "growth": GROWTH, "blocks": BLOCKS, "upsampler": upsampler if stages else "nearest"}
    opened_equals(tmp_path / "a.pth", first_code(stages, upsampler), expect, IMAGE)


def test_the_numbers_of_the_last_layers_are_xinntaos():
    """×4: model.3, 6, 8, 10; ×2: 3, 5, 7; ×8: 3, 6, 9, 11, 13."""
    for stages, numbers in ((1, [3, 5, 7]), (2, [3, 6, 8, 10]), (3, [3, 6, 9, 11, 13])):
        names = first_code(stages, "nearest").state_dict()
        found = {int(name.split(".")[1]) for name in names if name.startswith("model.")}
        assert sorted(found - {0, 1}) == numbers


class ErikDense(nn.Module):
    def __init__(self):
        super().__init__()
        for index in range(1, 6):
            layers = [conv(index * WIDTH, WIDTH)] + ([nn.LeakyReLU()] if index < 5 else [])
            setattr(self, f"b{index}", nn.Sequential(*layers))

    def forward(self, x):
        made = x
        for index in range(1, 6):
            out = getattr(self, f"b{index}")(made)
            made = torch.cat([made, out], 1)
        return out.mul(0.2) + x


class ErikBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense_blocks = nn.Sequential(ErikDense(), ErikDense(), ErikDense())

    def forward(self, x):
        return self.dense_blocks(x).mul(0.2) + x


class Erik(nn.Module):
    def __init__(self, stages):
        super().__init__()
        self.conv1 = conv(3, WIDTH)
        self.res_blocks = nn.Sequential(*(ErikBlock() for _ in range(BLOCKS)))
        self.conv2 = conv(WIDTH, WIDTH)
        stage = [[conv(WIDTH, WIDTH * 4), nn.LeakyReLU(), nn.PixelShuffle(2)] for _ in range(stages)]
        self.upsampling = nn.Sequential(*(layer for layers in stage for layer in layers))
        self.conv3 = nn.Sequential(conv(WIDTH, WIDTH), nn.LeakyReLU(), conv(WIDTH, 3))

    def forward(self, x):
        first = self.conv1(x)
        return self.conv3(self.upsampling(first + self.conv2(self.res_blocks(first))))


@pytest.mark.parametrize("stages", [1, 2])
def test_eriklindernoren(tmp_path, stages):
    opened_equals(
        tmp_path / "generator_0.pth",
        unlike_new(Erik(stages)),
        {"scale": 2**stages, "growth": WIDTH, "slope": 0.01, "upsampler": "shuffle", "values_in": "imagenet"},
        IMAGE,
        before=lambda x: (x - MEAN) / STD,
        after=lambda y: y * STD + MEAN,
    )


def test_channels_that_do_not_fit_are_reported(tmp_path):
    state = RRDBNet(NAMES["basicsr"]).state_dict()
    torch.save({**state, "conv_first.weight": torch.zeros(WIDTH, 5, 3, 3)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"'head\.weight' is \[8, 5, 3, 3\], should be \[8, 3, 3, 3\]"):
        open_model(tmp_path / "a.pth")
