"""Spectral normalisation of a discriminator (Miyato et al. 2018, arXiv:1802.05957)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm


def add_spectral_norm(module: nn.Module) -> None:
    """Divide the weight of every convolution and dense layer by its largest singular value, from now on.

    The largest singular value is that of the (O, C·k·k) matrix, by one power iteration a step as in the paper
    (algorithm 1). It bounds how fast the logit can change with the image, so that the discriminator cannot win by
    becoming ever steeper.

    Args:
        module: changed in place; its state dict then names ``….parametrizations.weight.original``.
    """
    for layer in list(module.modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            spectral_norm(layer)


@contextmanager
def weights_once(module: nn.Module) -> Iterator[None]:
    """Within the block every normalised weight of ``module`` is computed once, in fp32, for all forward passes.

    Without it each forward pass makes a power iteration of its own, under autocast in half precision on a GPU. The
    module's weights must not change within the block, and the block must not begin under autocast.
    """
    with parametrize.cached():
        for layer in module.modules():
            if parametrize.is_parametrized(layer, "weight"):
                layer.weight  # noqa: B018 - the look is what fills the cache
        yield
