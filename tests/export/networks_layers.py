"""Blocks of the table's layers, from which tests build random networks."""

import random

import torch
from torch import nn
from torch.nn import functional as F

C = 4
LEAST, MOST = 1 / 4, 4  # resolutions relative to the input


class Function(nn.Module):
    """A function as a network's layer, with two convolutions that it may use."""

    def __init__(self, function):
        super().__init__()
        self.one, self.two = nn.Conv2d(C, C, 3, padding=1), nn.Conv2d(C, C, 1)
        self.gain = nn.Parameter(torch.rand(C) + 0.5)
        self.function = function

    def forward(self, x):
        return self.function(self, x)


def conv(*args, **settings):
    return lambda: nn.Conv2d(C, C, *args, **settings)


def function(body):
    return lambda: Function(body)


def norm_over_channels(net, x):
    mean = x.mean(1, keepdim=True)
    return net.gain[:, None, None] * (x - mean) / torch.sqrt((x - mean).pow(2).mean(dim=1, keepdim=True) + 1e-3)


def in_place(net, x):
    y = net.one(x)
    z = net.two(F.leaky_relu(y, 0.3, inplace=True))
    y += z
    y.mul_(0.5)
    return net.one(y) + y


def fixed_norm(net, x):
    return F.batch_norm(x, net.gain / 2, net.gain, net.gain, net.gain)


def in_two(net, x):
    parts = torch.split(net.one(x), [1, 3], dim=1)
    return torch.cat([parts[1], parts[0]], 1)


STREAMED = {
    "conv 1": (1, conv(1)),
    "conv 3": (1, conv(3, padding=1)),
    "conv 5": (1, conv(5, padding="same")),
    "conv 1×3": (1, conv((1, 3), padding=(0, 1))),
    "shuffle": (2, lambda: nn.Sequential(nn.Conv2d(C, 4 * C, 3, padding=1), nn.PixelShuffle(2))),
    "function shuffle": (2, function(lambda net, x: F.pixel_shuffle(torch.cat([x, net.one(x), net.two(x), x], 1), 2))),
    "unshuffle": (0.5, lambda: nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * C, C, 3, padding=1))),
    "nearest": (2, lambda: nn.Upsample(scale_factor=2)),
    "function nearest": (2, function(lambda net, x: F.interpolate(x, scale_factor=2.0))),
    "bilinear": (2, lambda: nn.Upsample(scale_factor=2, mode="bilinear")),
    "function bilinear": (
        2,
        function(lambda net, x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)),
    ),
    "residual": (1, function(lambda net, x: x + net.two(torch.tanh(net.one(x))) * 0.2)),
    "weighted": (1, function(lambda net, x: torch.add(x, net.one(x), alpha=0.2))),
    "dense": (1, function(lambda net, x: net.one(torch.cat([x, net.two(x)], dim=1)[:, 2:6]))),
    "gate": (1, function(lambda net, x: torch.sigmoid(net.one(x)) * x - 1)),
    "chunks": (1, function(lambda net, x: torch.cat([net.one(x).chunk(2, dim=1)[i] * (i + 1) for i in (1, 0)], 1))),
    "split": (1, function(in_two)),
    "over channels": (1, function(norm_over_channels)),
    "in place": (1, function(in_place)),
    "softmax": (1, lambda: nn.Softmax(dim=1)),
    "gelu": (1, nn.GELU),
    "silu": (1, nn.SiLU),
    "mish": (1, nn.Mish),
    "softplus": (1, nn.Softplus),
    "elu": (1, nn.ELU),
    "prelu": (1, lambda: nn.PReLU(C)),
    "hardswish": (1, function(lambda net, x: F.hardswish(x) + F.silu(x) + F.gelu(-x))),
    "batch norm": (1, lambda: nn.BatchNorm2d(C)),
    "function batch norm": (1, function(fixed_norm)),
    "function prelu": (1, function(lambda net, x: F.prelu(x, net.gain))),
}
"""Resolution, and what makes the block."""

OTHERS = {
    "dilated": (1, conv(3, padding=2, dilation=2)),
    "grouped": (1, conv(3, padding=1, groups=2)),
    "reflect": (1, conv(3, padding=1, padding_mode="reflect")),
    "even": (1, lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 1, 0)), nn.Conv2d(C, C, 2))),
    "pad": (1, lambda: nn.Sequential(nn.ReflectionPad2d((1, 3, 2, 2)), nn.Conv2d(C, C, 5))),
    "replicate": (1, lambda: nn.Sequential(nn.ReplicationPad2d(1), nn.Conv2d(C, C, 3))),
    "function pad": (
        1,
        function(lambda net, x: F.conv2d(F.pad(x, (2, 2, 2, 2), value=0.5), net.one.weight, dilation=2)),
    ),
    "crop": (1, function(lambda net, x: F.pad(net.one(x), (1, 1, 1, 1))[:, :, 1:-1, 1:-1])),
    "strided": (0.5, conv(3, stride=2, padding=1)),
    "strided 4": (0.5, conv(4, stride=2, padding=1)),
    "transposed": (2, lambda: nn.ConvTranspose2d(C, C, 4, stride=2, padding=1)),
    "transposed 3": (2, lambda: nn.ConvTranspose2d(C, C, 3, stride=2, padding=1, output_padding=1)),
    "function transposed": (2, function(lambda net, x: F.conv_transpose2d(x, net.one.weight, None, 2, 1, 1))),
    "mean pool": (0.5, lambda: nn.AvgPool2d(2)),
    "function mean pool": (0.5, function(lambda net, x: F.avg_pool2d(x, 3, 2, 1))),
    "half": (0.5, lambda: nn.Upsample(scale_factor=0.5, mode="bilinear")),
    "bicubic": (2, lambda: nn.Upsample(scale_factor=2, mode="bicubic")),
    "antialiased": (0.5, function(lambda net, x: F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True))),
    "nearest exact": (2, lambda: nn.Upsample(scale_factor=2, mode="nearest-exact")),
}
LOOSE = {
    "largest": (0.5, lambda: nn.MaxPool2d(2)),
    "function largest": (0.5, function(lambda net, x: F.max_pool2d(x, 3, 2, padding=1))),
    "relu": (1, lambda: nn.ReLU(inplace=True)),
    "relu6": (1, lambda: nn.ReLU6(inplace=True)),
}
"""What a single change of the input need not reach."""
EVERYTHING = {**STREAMED, **OTHERS, **LOOSE}


def random_network(seed, blocks, length=5):
    """A network of random blocks, and its resolution."""
    choose, rate, made = random.Random(seed), 1, []
    torch.manual_seed(seed)
    while len(made) < length:
        factor, make = blocks[choose.choice(sorted(blocks))]
        if LEAST <= rate * factor <= MOST:
            made.append(make())
            rate *= factor
    return lively(nn.Sequential(*made)), rate


def lively(net):
    """Eval mode, with statistics away from the identity."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
    return net.eval().requires_grad_(False)
