"""One layer's rows from its inputs' rows: what :mod:`gankit.backends.cpu.layerwise` is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from gankit_export.calls import Call, UnknownLayerError
from gankit_export.layers import Kind, find
from gankit_export.window import Window
from gankit_export.windows import pad_sizes, pair
from torch import Tensor, fx
from torch.nn import functional as F

from gankit.backends.cpu.operation import Height, Operation, Read


class _Pointwise(Operation):
    """A function of the same rows of its inputs."""

    def rows(self, start: int, stop: int, read: Read, height: Height, known: Any) -> Tensor:
        values = []
        for item in self.call.images:
            low, high = (0, 1) if height(item) == 1 else (start, stop)  # one row for all, such as a mean
            values.append(read(item, low, high))
        if _changes_its_input(self.call):  # it would write into what is stored
            values[0] = values[0].clone()
        result: Tensor = self.call.apply(values)
        return result


class _Split(_Pointwise):
    """A tuple of groups of channels; only its pieces are images."""

    stored = False


class _Size(Operation):
    """A shape or a type."""

    stored, size = False, True


class _Conv(Operation):
    """A zero-padded convolution of any stride and dilation.

    Args:
        call: of ``Conv2d`` or ``conv2d``.
        window: of its rows.
    """

    heavy = True

    def __init__(self, call: Call, window: Window) -> None:
        super().__init__(call)
        self._window = window

    def rows(self, start: int, stop: int, read: Read, height: Height, known: Any) -> Tensor:
        call, full = self.call, height(self.source)
        first, last = self._window.needs(start, stop)
        x = read(self.source, max(0, first), min(full, last))
        if first < 0 or last > full:
            x = F.pad(x, (0, 0, max(0, -first), max(0, last - full)))
        return F.conv2d(
            x,
            call.tensor("weight", 1),
            call.get("bias", 2, None),
            call.get("stride", 3, 1),
            (0, int(pair(call.get("padding", 4, 0), 1))),
            call.get("dilation", 5, 1),
            call.get("groups", 6, 1),
        )


class _ConvTranspose(Operation):
    """A transposed convolution.

    Args:
        call: of ``ConvTranspose2d`` or ``conv_transpose2d``.
        window: of its rows.
    """

    heavy = True

    def __init__(self, call: Call, window: Window) -> None:
        super().__init__(call)
        self._window = window

    def rows(self, start: int, stop: int, read: Read, height: Height, known: Any) -> Tensor:
        call, pads = self.call, self.call.get("padding", 4, 0)
        first, last = self._window.needs(start, stop)
        first, last = max(0, first), min(height(self.source), last)
        y = F.conv_transpose2d(
            read(self.source, first, last),
            call.tensor("weight", 1),
            call.get("bias", 2, None),
            call.get("stride", 3, 1),
            (0, int(pair(pads, 1))),
            (0, int(pair(call.get("output_padding", 5, 0), 1))),
            call.get("groups", 6, 1),
            call.get("dilation", 7, 1),
        )
        offset = start - (first * int(self._window.rate) - int(pair(pads, 0)))
        return y[:, :, offset : offset + stop - start]


class _Norm(Operation):
    """InstanceNorm or GroupNorm with the statistics of the whole image."""

    statistics = True

    def rows(self, start: int, stop: int, read: Read, height: Height, known: Any) -> Tensor:
        norm, source = self.call.module, self.source
        x = read(source, start, stop)
        mean, variance = known(source).grouped(getattr(norm, "num_groups", x.shape[1]))
        scale = torch.rsqrt(variance + norm.eps)
        shift = -mean * scale
        if norm.weight is not None:
            scale, shift = scale * norm.weight.float(), shift * norm.weight.float()
        if norm.bias is not None:
            shift = shift + norm.bias.float()
        result: Tensor = (x.float() * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)).to(x.dtype)
        return result


class _Pad(Operation):
    """Mirrored, repeated or empty rows and columns around an image."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._left, self._right = pad_sizes(call, 1)
        self._top = pad_sizes(call, 0)[0]
        name = type(call.module).__name__
        mode = "reflect" if name == "ReflectionPad2d" else "replicate" if name == "ReplicationPad2d" else "constant"
        self._mode = mode if call.module is not None else call.get("mode", 2, "constant")

    def rows(self, start: int, stop: int, read: Read, height: Height, known: Any) -> Tensor:
        source = self.source
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
        result: Tensor = x
        return result


class _Grow(Operation):
    """PixelShuffle and nearest-neighbour enlargement: an output row comes from one input row."""

    def __init__(self, call: Call, factor: int) -> None:
        super().__init__(call)
        self._factor = factor

    def rows(self, start: int, stop: int, read: Read, height: Height, known: Any) -> Tensor:
        first = start // self._factor
        x: Tensor = self.call.apply([read(self.source, first, -(-stop // self._factor))])
        return x[:, :, start - first * self._factor : stop - first * self._factor]


class _Bilinear(Operation):
    """Bilinear enlargement: an output row lies between two input rows."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._corners = bool(call.get("align_corners", 4, None))
        self._factor = float(pair(call.get("scale_factor", 2, None), 0))

    def rows(self, start: int, stop: int, read: Read, height: Height, known: Any) -> Tensor:
        source = self.source
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

    def run(self, read: Callable[[fx.Node], Any]) -> Tensor:
        values = [read(item) for item in self.call.images]
        if _changes_its_input(self.call):
            values[0] = values[0].clone()
        result: Tensor = self.call.apply(values)
        return result


def _changes_its_input(call: Call) -> bool:
    if call.module is not None:
        return bool(getattr(call.module, "inplace", False))
    return bool(call.node.kwargs.get("inplace")) or getattr(call.target, "__name__", str(call.target)).endswith("_")


def _never(call: Call, window: Window | None) -> Operation | None:
    return None


def _pointwise(call: Call, window: Window | None) -> Operation | None:
    return None if window is None else _Pointwise(call)  # a constant of an image's size goes by its own rows


def _split(call: Call, window: Window | None) -> Operation | None:
    return _Split(call)


def _conv(call: Call, window: Window | None) -> Operation | None:
    zeros = call.module is None or call.module.padding_mode == "zeros"
    plain = zeros and not isinstance(call.get("padding", 4, 0), str)
    return _Conv(call, window) if plain and window is not None else None


def _conv_transpose(call: Call, window: Window | None) -> Operation | None:
    more, less = (int(pair(call.get(name, at, 0), 0)) for name, at in (("output_padding", 5), ("padding", 4)))
    return _ConvTranspose(call, window) if window is not None and more <= less else None


def _norm(call: Call, window: Window | None) -> Operation | None:
    return _Norm(call)


def _pad(call: Call, window: Window | None) -> Operation | None:
    sizes = (*pad_sizes(call, 0), *pad_sizes(call, 1))
    value = call.get("value", 3, None)
    return _Pad(call) if min(sizes) >= 0 and value in (None, 0) else None


def _grow(call: Call, window: Window | None) -> Operation | None:
    return None if window is None else _Grow(call, int(window.rate))


def _bilinear(call: Call, window: Window | None) -> Operation | None:
    return _Bilinear(call)


_BY_KIND: Mapping[Kind, Callable[[Call, Window | None], Operation | None]] = MappingProxyType(
    {
        Kind.POINTWISE: _pointwise,
        Kind.AFFINE: _pointwise,
        Kind.SPLIT: _split,
        Kind.NORM: _norm,
        Kind.CONVOLUTION: _conv,
        Kind.TRANSPOSED: _conv_transpose,
        Kind.PAD: _pad,
        Kind.ENLARGE: _grow,
        Kind.BILINEAR: _bilinear,
    }
)


def operation(call: Call) -> Operation:
    """The operation of a layer; one that works whole where nothing better is known."""
    row = find(call)
    if row is not None and row.kind is Kind.SIZE:
        return _Size(call)
    try:
        window = None if row is None else row.reads(call, 0)
    except UnknownLayerError:  # its settings are computed from the image
        return _Whole(call)
    made = None if row is None else _BY_KIND.get(row.kind, _never)(call, window)
    return made or _Whole(call)
