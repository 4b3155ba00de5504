"""EDSR, written from its three publications: their files make their images."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gankit import models
from gankit.checkpoints import open_model, save
from gankit.errors import CheckpointError
from tests.checkpoints.published import conv, opened_equals, unlike_new

IMAGE = torch.rand(2, 3, 9, 13, generator=torch.Generator().manual_seed(1))
WIDTH, BLOCKS = 8, 3
MEAN = (0.4488, 0.4371, 0.4040)
SHIFT = torch.tensor(MEAN).view(1, 3, 1, 1)


def factors(scale):
    return {1: [], 2: [2], 3: [3], 4: [2, 2], 8: [2, 2, 2]}[scale]


class Shift(nn.Conv2d):
    """sanghyun-son's MeanShift."""

    def __init__(self, sign, white=255.0, mean=MEAN, std=(1.0, 1.0, 1.0)):
        super().__init__(3, 3, 1)
        std = torch.tensor(std)
        self.weight.data = torch.eye(3).view(3, 3, 1, 1) / std.view(3, 1, 1, 1)
        self.bias.data = sign * white * torch.tensor(mean) / std


class Residual(nn.Module):
    """Its ResBlock: layers 0 and 2 of ``body`` are convolutions."""

    def __init__(self, width, factor):
        super().__init__()
        self.factor = factor
        self.body = nn.Sequential(conv(width, width), nn.ReLU(), conv(width, width))

    def forward(self, x):
        return x + self.body(x) * self.factor


class Son(nn.Module):
    def __init__(self, scale, width=WIDTH, factor=1.0, **shift):
        super().__init__()
        self.shift = shift
        self.head = nn.Sequential(conv(3, width))
        self.body = nn.Sequential(*(Residual(width, factor) for _ in range(BLOCKS)), conv(width, width))
        enlarge = [layer for step in factors(scale) for layer in (conv(width, width * step**2), nn.PixelShuffle(step))]
        self.tail = nn.Sequential(nn.Sequential(*enlarge), conv(width, 3))

    def forward(self, x):
        y = self.head(self.sub_mean(x))
        return self.add_mean(self.tail(y + self.body(y)))


def sons(*arguments, **options):
    """With its shifts, which are not random; they come first in its files."""
    theirs = unlike_new(Son(*arguments, **options))
    layers = dict(theirs.named_children())
    theirs._modules = {
        "sub_mean": Shift(-1, **theirs.shift).requires_grad_(False),
        "add_mean": Shift(1, **theirs.shift).requires_grad_(False),
        **layers,
    }
    return theirs


def in_bytes(theirs):
    """Biases as large as those of a network that was trained on 0 to 255."""
    with torch.no_grad():
        for name, value in theirs.named_parameters():
            if name.endswith(".bias") and not name.startswith(("sub_mean", "add_mean")):
                value.mul_(100)
    return theirs


def from_bytes(y):
    return y / 255


def to_bytes(x):
    return x * 255


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_sanghyun_son(tmp_path, scale):
    expect = {"scale": scale, "channels": WIDTH, "blocks": BLOCKS, "in_channels": 3, "tail": "edsr"}
    theirs = in_bytes(sons(scale))
    loaded = opened_equals(
        tmp_path / "a.pt", theirs, expect | {"mean": list(MEAN)}, IMAGE, before=to_bytes, after=from_bytes
    )
    assert loaded.facts.name == "edsr"
    assert loaded.recognised == "the names of its tensors: sanghyun-son EDSR"
    assert "res_scale=1" in loaded.assumed


def test_sanghyun_son_on_values_up_to_one(tmp_path):
    """Trained with ``--rgb_range 1``, as ``sub_mean`` tells."""
    theirs = sons(2, white=1.0)
    assert "white=1" in opened_equals(tmp_path / "a.pt", theirs, {"scale": 2}, IMAGE).assumed


def test_sanghyun_son_with_other_shifts(tmp_path):
    """Another mean, and deviations, which that code applies at both ends."""
    theirs = in_bytes(sons(3, mean=(0.3, 0.5, 0.7), std=(0.5, 2.0, 1.5)))
    expect = {"scale": 3, "mean": [0.3, 0.5, 0.7]}
    opened_equals(tmp_path / "a.pt", theirs, expect, IMAGE, before=to_bytes, after=from_bytes)


def test_sanghyun_son_without_the_shifts(tmp_path):
    """A file of the trainable weights only; the usual mean is assumed."""
    theirs = in_bytes(sons(2))
    opened_equals(
        tmp_path / "a.pt",
        theirs,
        {"scale": 2, "mean": list(MEAN)},
        IMAGE,
        before=to_bytes,
        after=from_bytes,
        wrap=lambda state: {name: value for name, value in state.items() if "_mean" not in name},
    )


def test_a_shift_that_cannot_be_undone_is_not_guessed(tmp_path):
    theirs = sons(2)
    theirs.sub_mean.weight.zero_()
    torch.save(theirs.state_dict(), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="unknown architecture"):
        open_model(tmp_path / "a.pt")


@pytest.mark.parametrize("damage", [("sub_mean.bias", None), ("add_mean.weight", (3, 3))])
def test_half_of_the_shifts_is_not_enough(tmp_path, damage):
    state = dict(sons(2).state_dict())
    name, shape = damage
    if shape is None:
        del state[name]
    else:
        state[name] = state[name].reshape(shape)
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"does not fit 'edsr': .*_mean\..* unexpected"):
        open_model(tmp_path / "a.pt")


def test_the_large_network_scales_its_residuals(tmp_path):
    """256 channels: the paper's 0.1, which another value may replace."""
    theirs = in_bytes(sons(2, 256, 0.1))
    small = IMAGE[:1, :, :5, :5]
    opened_equals(tmp_path / "a.pt", theirs, {"res_scale": 0.1}, small, before=to_bytes, after=from_bytes)
    other = open_model(tmp_path / "a.pt", options={"res_scale": 1})
    assert (other.generator(small) - theirs(small * 255) / 255).abs().max() > 0.01


class Block(nn.Module):
    """BasicSR's and mmagic's ResidualBlockNoBN."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.conv1, self.conv2 = conv(WIDTH, WIDTH), conv(WIDTH, WIDTH)

    def forward(self, x):
        return x + self.conv2(F.relu(self.conv1(x))) * self.factor


class Pack(nn.Module):
    """mmagic's PixelShufflePack."""

    def __init__(self, step):
        super().__init__()
        self.step, self.upsample_conv = step, conv(WIDTH, WIDTH * step**2)

    def forward(self, x):
        return F.pixel_shuffle(self.upsample_conv(x), self.step)


class Arch(nn.Module):
    def __init__(self, project, scale, colours=3, factor=1.0):
        super().__init__()
        self.white = 255.0 if project == "basicsr" else 1.0
        self.shift = SHIFT if colours == 3 else torch.zeros(1)
        self.conv_first = conv(colours, WIDTH)
        self.body = nn.Sequential(*(Block(factor) for _ in range(BLOCKS)))
        self.conv_after_body = conv(WIDTH, WIDTH)
        if project == "mmagic":
            self.upsample = nn.Sequential(*(Pack(step) for step in factors(scale)))
        else:
            pairs = [(conv(WIDTH, WIDTH * step**2), nn.PixelShuffle(step)) for step in factors(scale)]
            self.upsample = nn.Sequential(*(layer for pair in pairs for layer in pair))
        self.conv_last = conv(WIDTH, colours)

    def forward(self, x):
        y = self.conv_first((x - self.shift) * self.white)
        y = self.conv_last(self.upsample(y + self.conv_after_body(self.body(y))))
        return y / self.white + self.shift


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("project", ["basicsr", "mmagic"])
def test_basicsr_and_mmagic(tmp_path, project, scale):
    theirs = unlike_new(Arch(project, scale))
    prefix, key = ("generator.", "state_dict") if project == "mmagic" else ("", "params_ema")
    loaded = opened_equals(
        tmp_path / "a.pth",
        in_bytes(theirs) if project == "basicsr" else theirs,
        {"scale": scale, "channels": WIDTH, "blocks": BLOCKS, "tail": "edsr", "mean": list(MEAN)},
        IMAGE,
        wrap=lambda state: {key: {f"{prefix}{name}": value for name, value in state.items()}},
    )
    assert loaded.recognised == f"the names of its tensors: {'BasicSR' if project == 'basicsr' else 'mmagic'} EDSR"


def test_gray_has_no_mean(tmp_path):
    theirs = unlike_new(Arch("mmagic", 2, colours=1))
    opened_equals(tmp_path / "a.pth", theirs, {"in_channels": 1, "mean": None}, IMAGE[:, :1])


def test_options_in_place_of_the_usual_ones(tmp_path):
    theirs = unlike_new(Arch("mmagic", 2, factor=0.5))
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    loaded = open_model(tmp_path / "a.pth", options={"res_scale": 0.5})
    torch.testing.assert_close(loaded.generator(IMAGE), theirs(IMAGE), atol=1e-5, rtol=0)
    theirs.shift = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
    loaded = open_model(tmp_path / "a.pth", options={"res_scale": 0.5, "mean": [0.1, 0.2, 0.3]})
    torch.testing.assert_close(loaded.generator(IMAGE), theirs(IMAGE), atol=1e-5, rtol=0)
    theirs.shift = torch.zeros(1)
    loaded = open_model(tmp_path / "a.pth", options={"res_scale": 0.5, "mean": None})
    torch.testing.assert_close(loaded.generator(IMAGE), theirs(IMAGE), atol=1e-5, rtol=0)


class Direct(nn.Module):
    """gankit's variant, written again."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale
        self.head, self.neck, self.tail = conv(3, WIDTH), conv(WIDTH, WIDTH), conv(WIDTH, 3 * scale**2)
        self.body = nn.Sequential(*(Block(1.0) for _ in range(BLOCKS)))

    def forward(self, x):
        y = self.head(x)
        y = self.tail(y + self.neck(self.body(y)))
        return F.pixel_shuffle(y, self.scale) + F.interpolate(x, scale_factor=self.scale, mode="nearest")


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_gankits_own(tmp_path, scale):
    expect = {"scale": scale, "channels": WIDTH, "blocks": BLOCKS, "tail": "direct", "mean": None}
    loaded = opened_equals(tmp_path / "a.pth", unlike_new(Direct(scale)), expect, IMAGE)
    assert loaded.recognised == "the names of its tensors: gankit EDSR"


@pytest.mark.parametrize("options", [{"tail": "edsr"}, {"tail": "direct"}, {"scale": 3, "tail": "edsr"}])
def test_saved_with_and_without_a_header(tmp_path, options):
    options = {"scale": 2, "channels": WIDTH, "blocks": 2, "mean": [0.25, 0.5, 0.75], **options}
    net = models.build("edsr", options).eval().requires_grad_(False)
    facts = models.facts("edsr", options)
    save(tmp_path / "a.safetensors", net.state_dict(), "edsr", facts.options, dtype=torch.float32)
    torch.save(net.state_dict(), tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        loaded = open_model(tmp_path / name)
        assert loaded.facts == facts
        assert torch.equal(loaded.generator(IMAGE), net(IMAGE))


def test_the_published_sizes():
    def count(**options):
        return sum(parameter.numel() for parameter in models.build("edsr", options).parameters())

    assert count(tail="edsr", blocks=16) == 1_517_571  # EDSR-baseline ×4
    assert count(tail="edsr", blocks=32, channels=256) == 43_089_923  # EDSR ×4
    kernels = [(3, 64), *[(64, 64)] * 17, (64, 48)]
    assert count() == sum(9 * into * out + out for into, out in kernels)  # gankit's own
