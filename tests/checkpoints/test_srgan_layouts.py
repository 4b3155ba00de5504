"""SRGAN generators of other people, written from their publication: their files make their images."""

import pytest
import torch
from torch import nn

from gankit.checkpoints import open_model
from gankit.errors import CheckpointError
from tests.checkpoints.published import MEAN, STD, conv, opened_equals, unlike_new

IMAGE = torch.rand(2, 3, 9, 13, generator=torch.Generator().manual_seed(1))


class LeftthomasBlock(nn.Module):
    def __init__(self, width, slopes):
        super().__init__()
        self.conv1, self.bn1, self.prelu = conv(width, width), nn.BatchNorm2d(width), nn.PReLU(slopes)
        self.conv2, self.bn2 = conv(width, width), nn.BatchNorm2d(width)

    def forward(self, x):
        return x + self.bn2(self.conv2(self.prelu(self.bn1(self.conv1(x)))))


class LeftthomasUp(nn.Module):
    def __init__(self, width, slopes):
        super().__init__()
        self.conv, self.pixel_shuffle, self.prelu = conv(width, width * 4), nn.PixelShuffle(2), nn.PReLU(slopes)

    def forward(self, x):
        return self.prelu(self.pixel_shuffle(self.conv(x)))


class Leftthomas(nn.Module):
    def __init__(self, stages, neck, slopes=1, width=8):
        super().__init__()
        self.block1 = nn.Sequential(conv(3, width, 9), nn.PReLU(slopes))
        for index in range(2, 7):
            setattr(self, f"block{index}", LeftthomasBlock(width, slopes))
        last = nn.BatchNorm2d(width) if neck == "norm" else nn.PReLU(slopes)
        self.block7 = nn.Sequential(conv(width, width), last)
        self.block8 = nn.Sequential(*(LeftthomasUp(width, slopes) for _ in range(stages)), conv(width, 3, 9))

    def forward(self, x):
        first = x = self.block1(x)
        for index in range(2, 8):
            x = getattr(self, f"block{index}")(x)
        return (torch.tanh(self.block8(first + x)) + 1) / 2


@pytest.mark.parametrize("neck", ["norm", "prelu"])
@pytest.mark.parametrize("stages", [1, 2, 3])
def test_leftthomas(tmp_path, stages, neck):
    expect = {"scale": 2**stages, "blocks": 5, "channels": 8, "neck": None if neck == "norm" else "prelu"}
    opened_equals(tmp_path / "a.pth", unlike_new(Leftthomas(stages, neck)), expect, IMAGE)


def test_slopes_of_every_channel(tmp_path):
    theirs = unlike_new(Leftthomas(1, "prelu", slopes=8))
    opened_equals(tmp_path / "a.pth", theirs, {"slopes": "channel", "neck": "prelu"}, IMAGE)


class ErikBlock(nn.Module):
    def __init__(self, width, act, eps):
        super().__init__()
        norms = [nn.BatchNorm2d(width, eps), nn.BatchNorm2d(width, eps)]
        self.conv_block = nn.Sequential(conv(width, width), norms[0], act(), conv(width, width), norms[1])

    def forward(self, x):
        return x + self.conv_block(x)


class Erik(nn.Module):
    def __init__(self, act, eps, width=8, blocks=3, stages=2):
        super().__init__()
        self.conv1 = nn.Sequential(conv(3, width, 9), act())
        self.res_blocks = nn.Sequential(*(ErikBlock(width, act, eps) for _ in range(blocks)))
        self.conv2 = nn.Sequential(conv(width, width), nn.BatchNorm2d(width, eps))
        stage = [[conv(width, width * 4), nn.BatchNorm2d(width * 4), nn.PixelShuffle(2), act()] for _ in range(stages)]
        self.upsampling = nn.Sequential(*(layer for layers in stage for layer in layers))
        self.conv3 = nn.Sequential(conv(width, 3, 9), nn.Tanh())

    def forward(self, x):
        first = self.conv1(x)
        return self.conv3(self.upsampling(first + self.conv2(self.res_blocks(first))))


def imagenet(x):
    return (x - MEAN) / STD


def test_eriklindernoren(tmp_path):
    opened_equals(
        tmp_path / "generator_0.pth",
        unlike_new(Erik(nn.PReLU, 0.8)),
        {"scale": 4, "channels": 8, "blocks": 3, "bn_eps": 0.8, "values_in": "imagenet", "output": "tanh-imagenet"},
        IMAGE,
        before=imagenet,
        after=lambda y: y * STD + MEAN,
    )


def test_eriklindernoren_of_2018(tmp_path):
    opened_equals(
        tmp_path / "generator_0.pth",
        unlike_new(Erik(nn.ReLU, 1e-5, stages=1)),
        {"scale": 2, "bn_eps": None, "values_in": "signed", "output": "tanh"},
        IMAGE,
        before=lambda x: x * 2 - 1,
        after=lambda y: (y + 1) / 2,
    )


class Block(nn.Module):
    """sgrvinod's ConvolutionalBlock."""

    def __init__(self, width_in, width_out, size, norm, act):
        super().__init__()
        layers = [conv(width_in, width_out, size)]
        layers += [nn.BatchNorm2d(width_out)] if norm else []
        self.conv_block = nn.Sequential(*layers, *([act()] if act else []))

    def forward(self, x):
        return self.conv_block(x)


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv_block1 = Block(width, width, 3, True, nn.PReLU)
        self.conv_block2 = Block(width, width, 3, True, None)

    def forward(self, x):
        return self.conv_block2(self.conv_block1(x)) + x


class Sgrvinod(nn.Module):
    def __init__(self, width=8, blocks=3):
        super().__init__()
        self.conv_block1 = Block(3, width, 9, False, nn.PReLU)
        self.residual_blocks = nn.Sequential(*(Residual(width) for _ in range(blocks)))
        self.conv_block2 = Block(width, width, 3, True, None)
        self.subpixel_convolutional_blocks = nn.Sequential(*(LeftthomasUp(width, 1) for _ in range(2)))
        self.conv_block3 = Block(width, 3, 9, False, nn.Tanh)

    def forward(self, x):
        first = self.conv_block1(x)
        x = self.conv_block2(self.residual_blocks(first)) + first
        return self.conv_block3(self.subpixel_convolutional_blocks(x))


@pytest.mark.parametrize("prefix", ["", "net."])
def test_sgrvinod(tmp_path, prefix):
    opened_equals(
        tmp_path / "a.pth",
        unlike_new(Sgrvinod()),
        {"scale": 4, "channels": 8, "blocks": 3, "values_in": "imagenet", "output": "tanh"},
        IMAGE,
        before=imagenet,
        after=lambda y: (y + 1) / 2,
        wrap=lambda state: {f"{prefix}{name}": value for name, value in state.items()},
    )


class FastBlock(nn.Module):
    def __init__(self, width, norm, depthwise):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False, groups=width if depthwise else 1)
        self.bn1, self.relu1 = norm(width), nn.PReLU()
        self.conv2, self.bn2 = conv(width, width, 1 if depthwise else 3, bias=False), norm(width)

    def forward(self, x):
        return self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x))))) + x


class FastUp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv, self.phase_shift, self.relu = conv(width, width * 4), nn.PixelShuffle(2), nn.PReLU()

    def forward(self, x):
        return self.relu(self.phase_shift(self.conv(x)))


class Fast(nn.Module):
    def __init__(self, norm, depthwise, width=8, blocks=3):
        super().__init__()
        self.neck = nn.Sequential(conv(3, width), nn.PReLU())
        self.stem = nn.Sequential(*(FastBlock(width, norm, depthwise) for _ in range(blocks)))
        self.bottleneck = nn.Sequential(conv(width, width, bias=False), norm(width))
        self.upsampling = nn.Sequential(FastUp(width), FastUp(width))
        self.head = nn.Sequential(conv(width, 3), nn.Tanh())

    def forward(self, x):
        first = self.neck(x)
        return self.head(self.upsampling(self.bottleneck(self.stem(first)) + first))


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_fast_srgan(tmp_path, norm, depthwise):
    layer = nn.InstanceNorm2d if norm == "instance" else nn.BatchNorm2d
    loaded = opened_equals(
        tmp_path / "model.pt",
        unlike_new(Fast(layer, depthwise)),
        {"scale": 4, "channels": 8, "blocks": 3, "norm": norm, "depthwise": depthwise},
        IMAGE,
        before=lambda x: x * 2 - 1,
        after=lambda y: (y + 1) / 2,
        wrap=lambda state: {f"_orig_mod.{name}": value for name, value in state.items()},
    )
    assert loaded.facts.options["norm"] == norm
    assert loaded.facts.tileable == (norm == "batch")


def test_a_file_without_counters_of_batches(tmp_path):
    """As PyTorch wrote them before 0.4.1."""
    opened_equals(
        tmp_path / "a.pth",
        unlike_new(Leftthomas(1, "norm")),
        {"scale": 2},
        IMAGE,
        wrap=lambda state: {name: value for name, value in state.items() if "num_batches" not in name},
    )


def test_imagenet_values_want_three_channels(tmp_path):
    theirs = Erik(nn.PReLU, 0.8)
    theirs.conv1[0], theirs.conv3[0] = conv(1, 8, 9), conv(8, 1, 9)
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth: in_channels must be 3 for ImageNet's values, not 1"):
        open_model(tmp_path / "a.pth")


def test_tensors_of_wrong_shape_are_reported(tmp_path):
    """Also where the biases and means would be put together."""
    state = Leftthomas(1, "norm").state_dict()
    torch.save({**state, "block2.conv1.bias": torch.zeros(5)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth: .*'body\.0\.conv1\.bias' unexpected"):
        open_model(tmp_path / "a.pth")
    state = Erik(nn.PReLU, 0.8).state_dict()
    torch.save({**state, "upsampling.1.weight": torch.zeros(5)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth: .*unexpected"):
        open_model(tmp_path / "a.pth")
