"""Other people's files: wrappers, prefixes, layouts."""

import pytest
import torch
from torch import nn

from gankit.checkpoints import load, open_model, recognise
from gankit.errors import CheckpointError
from tests.checkpoints.conftest import OPTIONS


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": 1e-4}},
        lambda state: {"params": {}, "params_ema": state},
        lambda state: {"model": {"generator": state}},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"g_ema": {f"_orig_mod.module.{name}": value for name, value in state.items()}},
        lambda state: {
            **{f"netG.{name}": value for name, value in state.items()},
            "netD.features.0.weight": torch.zeros(3),
        },
    ],
)
def test_wrappers(tmp_path, generator, batch, wrap, legacy):
    path = tmp_path / "a.pth"
    torch.save(wrap(generator.state_dict()), path, _use_new_zipfile_serialization=not legacy)
    loaded = open_model(path)
    assert dict(loaded.facts.options) == OPTIONS
    torch.testing.assert_close(loaded.generator(batch), generator(batch), atol=1e-6, rtol=0)


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize(("channels", "blocks", "colours"), [(4, 1, 1), (12, 3, 3)])
def test_every_option_is_read_from_the_keys(scale, channels, blocks, colours):
    from gankit import models

    options = {"scale": scale, "channels": channels, "blocks": blocks, "in_channels": colours}
    found = recognise(models.build("srgan", options).state_dict())
    assert (found.model, dict(found.options)) == ("srgan", options)


class _Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.rcb = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.PReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x):
        return x + self.rcb(x)


class _Up(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.upsample_block = nn.Sequential(nn.Conv2d(channels, channels * 4, 3, 1, 1), nn.PixelShuffle(2), nn.PReLU())

    def forward(self, x):
        return self.upsample_block(x)


class _Lornatang(nn.Module):
    """The published network, written from its description."""

    def __init__(self, channels=8, blocks=3):
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, channels, 9, 1, 4), nn.PReLU())
        self.trunk = nn.Sequential(*(_Block(channels) for _ in range(blocks)))
        self.conv2 = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))
        self.upsampling = nn.Sequential(_Up(channels), _Up(channels))
        self.conv3 = nn.Conv2d(channels, 3, 9, 1, 4)

    def forward(self, x):
        first = self.conv1(x)
        return self.conv3(self.upsampling(first + self.conv2(self.trunk(first))))


def test_lornatang(tmp_path, batch):
    torch.manual_seed(3)
    theirs = _Lornatang().train()
    theirs(batch)  # running statistics of their own
    theirs.eval()
    torch.save({"epoch": 1, "ema_state_dict": theirs.state_dict()}, tmp_path / "g.pth.tar")
    loaded = open_model(tmp_path / "g.pth.tar")
    assert dict(loaded.facts.options) == {"scale": 4, "channels": 8, "blocks": 3, "in_channels": 3}
    torch.testing.assert_close(loaded.generator(batch), theirs(batch).detach(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["mnist_lenet.pth"])
def test_other_architectures_are_named(data, name):
    with pytest.raises(CheckpointError, match=r"unknown architecture: .* first .*known layouts") as caught:
        load(data / "checkpoints" / name)
    assert name in str(caught.value)
