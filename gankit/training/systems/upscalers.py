"""The generators of super-resolution as they are trained: weight init, forward pass, optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gankit.models.edsr import EDSR, ResidualBlock
from gankit.models.srgan import SRResNet
from gankit.training import srresnet
from gankit.training.optimisers import MuonAdam
from gankit.training.systems.superres_options import ContentOptions

_SMALL = 0.1  # of He's deviation, for what ends a residual branch


@dataclass(frozen=True)
class Upscaler:
    """A generator and how it learns.

    Attributes:
        generator: the network that is averaged, validated and shipped.
        forward: the same function, arranged for training.
        optimiser: of its parameters.
        model: the registry name that its weights are saved under; empty for the recipe's.
        options: those that build it again.
    """

    generator: nn.Module
    forward: nn.Module
    optimiser: Optimizer
    model: str
    options: Mapping[str, Any]


def upscaler(options: ContentOptions, initial: Mapping[str, Tensor] | None, device: torch.device) -> Upscaler:
    """The generator that the options name.

    Args:
        options: see :class:`ContentOptions`.
        initial: state dict to begin from.
        device: where it will be trained.
    """
    make = {"srresnet": _srresnet, "edsr": _edsr}[options.network]
    made = make(options, initial, device)
    made.generator.train()
    return made


def _srresnet(options: ContentOptions, initial: Mapping[str, Tensor] | None, device: torch.device) -> Upscaler:
    net = SRResNet(SRResNet.Options(scale=options.scale, **options.model))
    srresnet.initialise(net, options.norm)
    if initial is not None:
        net.load_state_dict(initial)
        if options.norm == "frozen":
            srresnet.freeze_norms(net)
    inner, rest = _split(net)
    optimiser = MuonAdam(
        inner,
        rest,
        inner_lr=options.inner_lr,
        lr=options.lr,
        betas=options.betas,
        weight_decay=options.weight_decay,
        fused=device.type == "cuda",
    )
    forward = srresnet.TrainingForward(net, options.norm)
    return Upscaler(net, forward, optimiser, "", {"scale": options.scale, **options.model})


def _edsr(options: ContentOptions, initial: Mapping[str, Tensor] | None, device: torch.device) -> Upscaler:
    described = EDSR.Options(scale=options.scale, **options.model)
    net = EDSR(described)
    initialise_edsr(net)
    if initial is not None:
        net.load_state_dict(initial)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = Adam(
        net.parameters(), lr=options.lr, betas=options.betas, weight_decay=options.weight_decay, fused=True
    )
    return Upscaler(net, net, optimiser, "edsr", described.stored())


@torch.no_grad()
def initialise_edsr(net: EDSR) -> None:
    """He's weight init with biases of 0; residual branches begin small, and the image as the enlarged input.

    A direct tail begins at zero, so that the first image is the nearest-neighbour base and not a random one.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    for module in net.modules():
        if isinstance(module, ResidualBlock):
            module.conv2.weight.mul_(_SMALL)
    net.neck.weight.mul_(_SMALL)
    if net.base is not None:
        nn.init.zeros_(net.tail.weight)


def _split(net: SRResNet) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters for Muon (convolutions between the two 9×9 ends) and for Adam (all others that train)."""
    inner: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        is_inner = parameter.ndim == 4 and not name.startswith(("head", "tail"))
        (inner if is_inner else rest).append(parameter)
    return inner, rest
