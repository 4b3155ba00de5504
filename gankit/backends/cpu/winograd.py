"""Convolutions by Winograd's algorithm in place of oneDNN's, in streams and in modules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TypeGuard

import torch
from gankit_kernels import winograd, winograd_steps
from torch import Tensor, fx, nn

from gankit.backends.cpu.few_pixels import FewPixels

PIECE_ROWS = 12  # whole tiles, of 4 rows as of 6


def strip_rows(rows: int) -> int:
    """Return about so many rows, at least 16, for strips of a chain of residual blocks with 3×3 convolutions.

    Of n rows of a strip, one convolution of a block computes n and the other n + 2: these leave little of the tiles of
    six rows empty where n is four more than a multiple of six.
    """
    return 6 * max(2, round((rows - 4) / 6)) + 4


def suits(conv: nn.Conv2d) -> bool:
    """Whether Winograd's algorithm can run a convolution: 3×3 or 5×5, fp32, stride 1, channels that fill registers."""
    return (
        _is_plain(conv)
        and conv.kernel_size[0] == conv.kernel_size[1]
        and conv.stride == conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.padding_mode == "zeros"
        and conv.weight.dtype == torch.float32
        and winograd.suits(conv.in_channels, conv.out_channels, conv.kernel_size[0])
    )


def suits_steps(conv: nn.Module) -> bool:
    """Whether Winograd's algorithm can run a convolution that halves or doubles an image: 3×3 or 4×4, fp32."""
    if not isinstance(conv, nn.Conv2d | nn.ConvTranspose2d) or conv.kernel_size not in ((3, 3), (4, 4)):
        return False
    doubles = isinstance(conv, nn.ConvTranspose2d)
    rest = 4 - conv.kernel_size[0] if doubles else 0
    return (
        _is_plain(conv)
        and conv.stride == (2, 2)
        and conv.padding == conv.dilation == (1, 1)
        and conv.output_padding == (rest, rest)
        and conv.groups == 1
        and conv.padding_mode == "zeros"
        and conv.weight.dtype == torch.float32
        and winograd_steps.suits(conv.in_channels, conv.out_channels, doubles=doubles)
    )


def convolutions(module: nn.Module) -> list[nn.Module]:
    """Return the convolutions of a network that :func:`with_winograd` would replace."""
    return [item for item in module.modules() if suits_module(item)]


def suits_module(conv: nn.Module) -> TypeGuard[nn.Conv2d | nn.ConvTranspose2d]:
    """Whether a module can run as a :class:`WinogradLayer`."""
    return suits_steps(conv) or (isinstance(conv, nn.Conv2d) and suits(conv) and _pads_little(conv))


def can_fuse(activation: nn.Module) -> bool:
    """Whether an activation can be computed together with the convolution before it."""
    return isinstance(activation, nn.ReLU | nn.LeakyReLU | nn.PReLU)


class WinogradConv:
    """What :class:`~gankit.backends.cpu.fused.FusedConv` is, by Winograd's algorithm.

    Args:
        conv: one that :func:`suits`.
        activation: applied to the result; one that :func:`can_fuse` accepts.

    Attributes:
        kernel: height and width of the kernel.
        in_channels: number of input channels.
        out_channels: number of output channels.
        filled: number of output channels with those that fill the last register, which ``out`` must have.
    """

    def __init__(self, conv: nn.Conv2d, activation: nn.Module | None = None) -> None:
        self.kernel = (conv.kernel_size[0], conv.kernel_size[1])
        self.in_channels, self.out_channels = conv.in_channels, conv.out_channels
        self._convolve = winograd.Winograd(conv.weight, conv.bias, _slopes(activation, conv.out_channels))
        self.filled = self._convolve.filled

    def __call__(
        self, x: Tensor, padding: tuple[int, int], add_to: Tensor | None = None, out: Tensor | None = None
    ) -> Tensor:
        """Convolve, with as many threads as torch would use.

        Args:
            x: (1, C, H, W), channels_last.
            padding: zeros above and below, left and right.
            add_to: a tensor that the result is added to, in place; it is returned.
            out: where the result is written, (1, filled, H', W').
        """
        return self._convolve(x, padding, add_to, torch.get_num_threads(), out)


class WinogradLayer(nn.Module):
    """A convolution that runs by Winograd's algorithm, with the activation behind it.

    Images too small for a gain run directly.

    Args:
        conv: one of :func:`suits_module`.
        activation: one that :func:`can_fuse` accepts.
    """

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, activation: nn.Module | None = None) -> None:
        super().__init__()
        slopes = _slopes(activation, conv.out_channels)
        self._pays: Callable[[Tensor], bool]
        self._run: Callable[[Tensor, int], Tensor]
        self._direct: Callable[[Tensor], Tensor]
        if conv.stride == (2, 2):
            self._direct = FewPixels(conv, activation)
            kind = winograd_steps.Doubling if isinstance(conv, nn.ConvTranspose2d) else winograd_steps.Halving
            steps = kind(conv.weight, conv.bias, slopes)
            self._pays, self._run = steps.pays, steps
        else:
            self._direct = conv if activation is None else nn.Sequential(conv, activation)
            assert not isinstance(conv.padding, str)
            padding = int(conv.padding[0]), int(conv.padding[1])
            whole = winograd.Winograd(conv.weight, conv.bias, slopes)
            self._pays = partial(whole.pays, padding=padding)
            self._run = lambda x, threads: whole(x, padding, None, threads)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W'), channels_last unless the images are small."""
        result: Tensor = self._run(x, torch.get_num_threads()) if self._pays(x) else self._direct(x)
        return result


def with_winograd(module: nn.Module) -> nn.Module:
    """Replace the convolutions that suit, and activations behind them, by :class:`WinogradLayer` s, in place."""
    if isinstance(module, fx.GraphModule):
        _replace_called(module)
    _replace_children(module)
    return module


def _replace_called(module: fx.GraphModule) -> None:
    """Replace each convolution of a traced network that is called once, together with its activation."""
    modules, calls = dict(module.named_modules()), Counter(node.target for node in module.graph.nodes)
    for node in [*module.graph.nodes]:
        conv = modules.get(str(node.target)) if node.op == "call_module" else None
        if conv is None or not suits_module(conv) or calls[node.target] > 1 or len(node.users) != 1:
            continue
        behind = next(iter(node.users))
        activation = modules.get(str(behind.target)) if behind.op == "call_module" else None
        if activation is not None and can_fuse(activation):
            module.set_submodule(str(node.target), WinogradLayer(conv, activation))
            behind.replace_all_uses_with(node)
            module.graph.erase_node(behind)
    module.delete_all_unused_submodules()
    module.recompile()


def _replace_children(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, WinogradLayer):
            continue
        if suits_module(child):
            setattr(module, name, WinogradLayer(child))
        else:
            _replace_children(child)


def _is_plain(conv: nn.Module) -> bool:
    """Whether a module does what torch's convolutions do: a class of a user's own may do more, and so may a hook."""
    hooks = conv._forward_pre_hooks or conv._forward_hooks
    return type(conv).forward in (nn.Conv2d.forward, nn.ConvTranspose2d.forward) and not hooks


def _pads_little(conv: nn.Conv2d) -> bool:
    return not isinstance(conv.padding, str) and max(conv.padding) <= conv.kernel_size[0] // 2


def _slopes(activation: nn.Module | None, channels: int) -> Tensor | None:
    """The factors of negative results; ``None`` without an activation."""
    if activation is None:
        return None
    if isinstance(activation, nn.PReLU):
        return activation.weight.detach().expand(channels)
    return torch.full((channels,), activation.negative_slope if isinstance(activation, nn.LeakyReLU) else 0.0)
