"""One layer's rows from its inputs' rows: what :mod:`gankit.backends.cpu.layerwise` is made of."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Protocol

import torch
from gankit_export.precision import Float32Norm
from torch import Tensor, fx, nn
from torch.nn import functional as F

Read = Callable[[fx.Node, int, int], Tensor]
Height = Callable[[fx.Node], int]

_POINTWISE_MODULES = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.PReLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Identity,
    nn.Dropout,
    nn.Dropout2d,
    nn.BatchNorm2d,
    nn.Hardtanh,
)
_POINTWISE_FUNCTIONS = {
    operator.add, operator.iadd, operator.sub, operator.mul, operator.truediv, torch.add, torch.sub, torch.mul,
    torch.tanh, torch.relu, torch.sigmoid, torch.clamp, F.relu, F.leaky_relu, F.tanh, F.sigmoid,
}  # fmt: skip
_POINTWISE_METHODS = {"add", "add_", "sub", "mul", "div", "clamp", "tanh", "relu", "sigmoid", "float", "to"}


class Known(Protocol):
    """Mean and variance of a stored value."""

    def grouped(self, groups: int) -> tuple[Tensor, Tensor]:
        """By channel."""


class Operation:
    """What a node does.

    Attributes:
        heavy: its rows are costly: they are stored, not made again for each reader.
        statistics: it needs those of its input.
        whole: it cannot work by rows: its inputs and its value are stored whole.
    """

    heavy = statistics = whole = False

    def __init__(self, node: fx.Node) -> None:
        self.node = node

    def rows(
        self, start: int, stop: int, read: Read, height: Height, known: Callable[[fx.Node], Known | None]
    ) -> Tensor:
        """Rows ``start`` to ``stop`` of the node's value.

        Args:
            start: the first.
            stop: one behind the last.
            read: rows of another node's value.
            height: of another node's value.
            known: the statistics of another node's value.
        """
        raise AssertionError("an operation that works whole has no rows")

    def run(self, read: Callable[[fx.Node], Tensor]) -> Tensor:
        """The whole value, from whole inputs."""
        raise AssertionError("an operation that works by rows is not run whole")


def operation(node: fx.Node, modules: dict[str, nn.Module]) -> Operation:
    """The operation of a node that calls something; one that works whole where nothing better is known.

    Args:
        node: ``call_module``, ``call_function`` or ``call_method``.
        modules: of the graph, by name.
    """
    if node.op == "call_module":
        return _of_module(node, modules[str(node.target)])
    if node.op == "call_function":
        if node.target in _POINTWISE_FUNCTIONS:
            return _Pointwise(node, node.target)
        dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        if node.target is torch.cat and dim == 1:
            return _Pointwise(node, torch.cat)
    elif node.target in _POINTWISE_METHODS:
        name = str(node.target)
        return _Pointwise(node, lambda x, *args, **kwargs: getattr(x, name)(*args, **kwargs))
    return _Whole(node, modules)


def _of_module(node: fx.Node, module: nn.Module) -> Operation:
    if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros" and isinstance(module.padding, tuple):
        return _Conv(node, module)
    if isinstance(module, nn.ConvTranspose2d) and int(module.output_padding[0]) <= int(module.padding[0]):
        return _ConvTranspose(node, module)
    norm = module.norm if isinstance(module, Float32Norm) else module
    if (isinstance(norm, nn.InstanceNorm2d) and not norm.track_running_stats) or isinstance(norm, nn.GroupNorm):
        return _Norm(node, norm)
    if isinstance(module, nn.ReflectionPad2d | nn.ReplicationPad2d | nn.ZeroPad2d):
        return _Pad(node, module)
    if isinstance(module, nn.PixelShuffle):
        return _Grow(node, module, module.upscale_factor)
    if isinstance(module, nn.Upsample):
        factor = module.scale_factor
        if module.mode == "nearest" and factor is not None and float(factor) == int(factor):  # type: ignore[arg-type]
            return _Grow(node, module, int(factor))  # type: ignore[arg-type]
        if module.mode == "bilinear" and factor is not None:
            return _Bilinear(node, bool(module.align_corners), float(factor))  # type: ignore[arg-type]
    if isinstance(module, _POINTWISE_MODULES):
        return _Pointwise(node, module)
    return _Whole(node, {str(node.target): module})


def _source(node: fx.Node) -> fx.Node:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return source


class _Pointwise(Operation):
    """A function of the same rows of its inputs."""

    def __init__(self, node: fx.Node, function: Callable[..., Any]) -> None:
        super().__init__(node)
        self._function = function

    def rows(self, start: int, stop: int, read: Read, height: Height, known: Any) -> Tensor:
        def fill(value: fx.Node) -> Any:
            return read(value, start, stop)

        args, kwargs = fx.node.map_arg((self.node.args, self.node.kwargs), fill)
        inplace = isinstance(self._function, nn.Module) and getattr(self._function, "inplace", False)
        if inplace:  # it would write into what is stored
            args = tuple(item.clone() if isinstance(item, Tensor) else item for item in args)
        result: Tensor = self._function(*args, **kwargs)
        return result


class _Conv(Operation):
    """A zero-padded convolution of any stride and dilation."""

    heavy = True

    def __init__(self, node: fx.Node, conv: nn.Conv2d) -> None:
        super().__init__(node)
        self._conv = conv

    def rows(self, start: int, stop: int, read: Read, height: Height, known: Any) -> Tensor:
        conv, source = self._conv, _source(self.node)
        stride, pad = conv.stride[0], int(conv.padding[0])
        first = start * stride - pad
        last = (stop - 1) * stride - pad + conv.dilation[0] * (conv.kernel_size[0] - 1) + 1
        full = height(source)
        x = read(source, max(0, first), min(full, last))
        if first < 0 or last > full:
            x = F.pad(x, (0, 0, max(0, -first), max(0, last - full)))
        return F.conv2d(x, conv.weight, conv.bias, conv.stride, (0, int(conv.padding[1])), conv.dilation, conv.groups)


class _ConvTranspose(Operation):
    """A transposed convolution."""

    heavy = True

    def __init__(self, node: fx.Node, conv: nn.ConvTranspose2d) -> None:
        super().__init__(node)
        self._conv = conv

    def rows(self, start: int, stop: int, read: Read, height: Height, known: Any) -> Tensor:
        conv, source = self._conv, _source(self.node)
        stride, pad = conv.stride[0], int(conv.padding[0])
        reach = conv.dilation[0] * (conv.kernel_size[0] - 1)
        # Output row o has something of input row i where i·stride - pad <= o <= i·stride - pad + reach.
        first = max(0, -(-(start + pad - reach) // stride))
        last = min(height(source), (stop - 1 + pad) // stride + 1)
        x = read(source, first, last)
        y = F.conv_transpose2d(
            x,
            conv.weight,
            conv.bias,
            conv.stride,
            (0, int(conv.padding[1])),
            (0, conv.output_padding[1]),
            conv.groups,
            conv.dilation,
        )
        offset = start - (first * stride - pad)
        return y[:, :, offset : offset + stop - start]


class _Norm(Operation):
    """InstanceNorm or GroupNorm with the statistics of the whole image."""

    statistics = True

    def __init__(self, node: fx.Node, norm: nn.InstanceNorm2d | nn.GroupNorm) -> None:
        super().__init__(node)
        self._norm = norm

    def rows(self, start: int, stop: int, read: Read, height: Height, known: Any) -> Tensor:
        norm, source = self._norm, _source(self.node)
        x = read(source, start, stop)
        groups = norm.num_groups if isinstance(norm, nn.GroupNorm) else x.shape[1]
        mean, variance = known(source).grouped(groups)
        scale = torch.rsqrt(variance + norm.eps)
        shift = -mean * scale
        if norm.weight is not None:
            scale, shift = scale * norm.weight.float(), shift * norm.weight.float()
        if norm.bias is not None:
            shift = shift + norm.bias.float()
        return (x.float() * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)).to(x.dtype)


class _Pad(Operation):
    """Mirrored, repeated or empty rows and columns around an image."""

    def __init__(self, node: fx.Node, pad: nn.ReflectionPad2d | nn.ReplicationPad2d | nn.ZeroPad2d) -> None:
        super().__init__(node)
        self._left, self._right, self._top, _ = pad.padding
        kinds = {nn.ReflectionPad2d: "reflect", nn.ReplicationPad2d: "replicate"}
        self._mode = kinds.get(type(pad), "constant")  # type: ignore[call-overload]

    def rows(self, start: int, stop: int, read: Read, height: Height, known: Any) -> Tensor:
        source = _source(self.node)
        full = height(source)
        index = torch.arange(start, stop) - self._top
        outside = (index < 0) | (index >= full)
        if self._mode == "reflect":
            index = index.abs()
            index = torch.where(index >= full, 2 * (full - 1) - index, index)
        index = index.clamp(0, full - 1)
        low, high = int(index.min()), int(index.max()) + 1
        x = read(source, low, high)
        if high - low != stop - start or bool(outside.any()):
            x = x.index_select(2, index - low)
        if self._mode == "constant" and bool(outside.any()):
            x = x * (~outside).to(x.dtype).view(1, 1, -1, 1)
        if self._left or self._right:
            x = F.pad(x, (self._left, self._right, 0, 0), mode=self._mode)
        return x


class _Grow(Operation):
    """PixelShuffle and nearest-neighbour enlargement: an output row comes from one input row."""

    def __init__(self, node: fx.Node, module: nn.Module, factor: int) -> None:
        super().__init__(node)
        self._module, self._factor = module, factor

    def rows(self, start: int, stop: int, read: Read, height: Height, known: Any) -> Tensor:
        first = start // self._factor
        x: Tensor = self._module(read(_source(self.node), first, -(-stop // self._factor)))
        return x[:, :, start - first * self._factor : stop - first * self._factor]


class _Bilinear(Operation):
    """Bilinear enlargement: an output row lies between two input rows."""

    def __init__(self, node: fx.Node, align_corners: bool, factor: float) -> None:
        super().__init__(node)
        self._corners, self._factor = align_corners, factor

    def rows(self, start: int, stop: int, read: Read, height: Height, known: Any) -> Tensor:
        source = _source(self.node)
        full = height(source)
        large = int(full * self._factor)
        wanted = torch.arange(start, stop, dtype=torch.float32)
        if self._corners:
            place = wanted * ((full - 1) / (large - 1) if large > 1 else 0.0)
        else:
            place = ((wanted + 0.5) / self._factor - 0.5).clamp(min=0)
        above = place.floor().long().clamp(max=full - 1)
        below = (above + 1).clamp(max=full - 1)
        low, high = int(above.min()), int(below.max()) + 1
        x = read(source, low, high)
        share = (place - above).to(x.dtype).view(1, 1, -1, 1)
        upper = x.index_select(2, above - low)
        x = upper + share * (x.index_select(2, below - low) - upper)
        size = (x.shape[2], int(x.shape[3] * self._factor))
        return F.interpolate(x, size=size, mode="bilinear", align_corners=self._corners)


class _Whole(Operation):
    """Anything else, on the whole image at once."""

    heavy = whole = True

    def __init__(self, node: fx.Node, modules: dict[str, nn.Module]) -> None:
        super().__init__(node)
        self._modules = modules

    def run(self, read: Callable[[fx.Node], Tensor]) -> Tensor:
        def fill(value: fx.Node) -> Any:
            return attribute(self.node.graph.owning_module, value) if value.op == "get_attr" else read(value)

        args, kwargs = fx.node.map_arg((self.node.args, self.node.kwargs), fill)
        if self.node.op == "call_module":
            result: Tensor = self._modules[str(self.node.target)](*args, **kwargs)
        elif self.node.op == "call_method":
            result = getattr(args[0], str(self.node.target))(*args[1:], **kwargs)
        else:
            result = self.node.target(*args, **kwargs)  # type: ignore[operator]
        return result


def attribute(root: nn.Module | None, node: fx.Node) -> Any:
    """What a ``get_attr`` node stands for."""
    found: Any = root
    for name in str(node.target).split("."):
        found = getattr(found, name)
    return found
