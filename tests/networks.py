"""Networks for tests: small, with weights and statistics that make every layer count."""

from pathlib import Path

import torch
from torch import nn

from gankit import checkpoints
from gankit.models import build


def small_srgan(scale=4, channels=16, blocks=2, seed=0, **options):
    """An SRResNet in eval mode whose BatchNorms are far from the identity and whose output lies in [0, 1]."""
    torch.manual_seed(seed)
    net = build("srgan", {"scale": scale, "channels": channels, "blocks": blocks, **options}).eval()
    for name, module in net.named_modules():
        if name.startswith(("entrance", "exit")):
            continue  # their statistics are fixed
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.1, 0.1)
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, 0.05, 0.4)
    nn.init.constant_(net.tail.bias, 0.5)
    return net.requires_grad_(False)


def save_visible_srgan(path: Path) -> Path:
    """Save an SRGAN of one block that makes visible images: the last layer's bias is a medium gray."""
    torch.manual_seed(0)
    options = {"blocks": 1, "channels": 8}
    net = build("srgan", options).eval()
    net.tail.bias.data.fill_(0.5)
    checkpoints.save(path, net.state_dict(), "srgan", options)
    return path
