"""Small networks with what precision and dynamic sides can go wrong on."""

import torch
from torch import nn


def small_srresnet(scale=4, channels=16):
    """Two blocks, statistics and weights away from their initial values, output around the middle of [0, 1]."""
    from gankit import models

    torch.manual_seed(0)
    module = models.build("srgan", {"scale": scale, "channels": channels, "blocks": 2}).eval().requires_grad_(False)
    for name, value in module.named_buffers():
        if value.is_floating_point():
            value.add_(torch.rand_like(value) * 0.2 if "var" in name else torch.randn_like(value) * 0.1)
    module.tail.bias.fill_(0.5)
    return module


class Instance(nn.Module):
    """An encoder and decoder with InstanceNorm, sides in multiples of 4, values in [-1, 1]."""

    def __init__(self, gain=1.0):
        super().__init__()
        self.gain = gain
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.InstanceNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1))
        self.norm = nn.GroupNorm(4, 16)
        self.up = nn.Sequential(nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh())

    def forward(self, x):
        return self.up(self.norm(self.down(x * self.gain)))
