"""The one table of layer behaviour: what each kind of layer means for tiles, strips, layerwise runs and rewrites.

A new type of layer is one more row, and everything that asks (receptive field, streaming, layerwise runs, rewrites,
precision) knows it from then on. An activation of your own, for example::

    LayerBehaviour(Kind.POINTWISE, modules=(Snake,), window=windows.same, elementwise=True),

Tracing does not look inside a module whose type is in the table, so its forward pass may be anything. A layer that is
not in the table is reported by :class:`~gankit_export.calls.UnknownLayerError`, in one line that names it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from gankit_export import conditions, windows
from gankit_export.calls import Call, LayerError, UnknownLayerError, WholeImageError
from gankit_export.window import Window


class Kind(StrEnum):
    """What a layer is; streaming and layerwise runs each have one way for a kind, or none."""

    POINTWISE = "pointwise"  # a pixel from the same pixels of its inputs, in every channel
    AFFINE = "affine"  # pointwise, with fixed numbers for each channel: a norm on running statistics
    SPLIT = "split"  # groups of channels, as a tuple
    NORM = "norm"  # the mean and variance of the whole image
    CONVOLUTION = "convolution"
    TRANSPOSED = "transposed"
    PAD = "pad"
    ENLARGE = "enlarge"  # PixelShuffle and nearest: a row from one row
    UNSHUFFLE = "unshuffle"
    BILINEAR = "bilinear"
    WINDOWED = "windowed"  # anything else with a window: pooling, cropping, bicubic
    WHOLE = "whole"  # anything that sees the whole image
    SIZE = "size"  # no image: its shape or type


@dataclass(frozen=True)
class LayerBehaviour:
    """One row of the table.

    Attributes:
        kind: what the layer is.
        modules: types that it applies to, and those derived from them.
        functions: as a traced graph names them.
        methods: of tensors.
        when: what its settings must be; without it, any.
        window: what it reads along axis 0 (rows) or 1 (columns); ``None`` from it for the whole image.
        elementwise: one function for all values, whatever their channel, so that it may change places with a shuffle.
        keeps_float32: it computes statistics, or divides by them, so that it stays float32 in a narrow network.
    """

    kind: Kind
    modules: tuple[type[nn.Module], ...] = ()
    functions: tuple[Callable[..., Any], ...] = ()
    methods: tuple[str, ...] = ()
    when: Callable[[Call], bool] | None = None
    window: Callable[[Call, int], Window | None] = windows.whole
    elementwise: bool = False
    keeps_float32: bool = False

    def applies(self, call: Call) -> bool:
        """Whether the row is the one of a call."""
        if call.module is not None:
            named = isinstance(call.module, self.modules)
        elif isinstance(call.target, str):
            named = call.target in self.methods
        else:
            named = any(call.target is item for item in self.functions)
        return named and (self.when is None or self.when(call))

    def reads(self, call: Call, axis: int) -> Window | None:
        """The window of a call along an axis; ``None`` where it reads the whole image.

        Raises:
            UnknownLayerError: its settings are computed from the image.
        """
        try:
            return self.window(call, axis)
        except LayerError:
            raise
        except (TypeError, ValueError, IndexError) as error:  # a node of the graph where a number should be
            raise UnknownLayerError(
                f"{call.title} has settings that are computed from the image: state tileable=False"
            ) from error


_ARITHMETIC = (
    *(operator.add, operator.iadd, operator.sub, operator.isub, operator.mul, operator.imul, operator.truediv),
    *(operator.itruediv, operator.neg, operator.pow),
)
_POINTWISE, _AFFINE = Kind.POINTWISE, Kind.AFFINE

LAYERS: tuple[LayerBehaviour, ...] = (  # the first row that applies counts
    # sizes and types, which are no images
    LayerBehaviour(Kind.SIZE, functions=(getattr,), when=conditions.size),
    LayerBehaviour(Kind.SIZE, methods=("size", "dim")),
    LayerBehaviour(
        Kind.SIZE, functions=(operator.getitem, operator.floordiv, operator.mod, *_ARITHMETIC), when=conditions.sizes
    ),
    # one function for every value
    LayerBehaviour(
        _POINTWISE,
        modules=(
            *(nn.Identity, nn.ReLU, nn.LeakyReLU, nn.RReLU, nn.ReLU6, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU),
            *(nn.Mish, nn.Tanh, nn.Sigmoid, nn.LogSigmoid, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softplus),
            *(nn.Softsign, nn.Tanhshrink, nn.Hardshrink, nn.Softshrink, nn.Threshold, nn.modules.dropout._DropoutNd),
        ),
        functions=(
            *(F.relu, F.relu_, F.leaky_relu, F.relu6, F.elu, F.celu, F.selu, F.gelu, F.silu, F.mish, F.tanh, F.sigmoid),
            *(F.logsigmoid, F.hardtanh, F.hardswish, F.hardsigmoid, F.softplus, F.softsign, F.tanhshrink, F.dropout),
            *(F.dropout2d, F.threshold, torch.relu, torch.tanh, torch.sigmoid, torch.abs, torch.neg, torch.exp),
            *(torch.log, torch.sqrt, torch.rsqrt, torch.square, torch.sin, torch.cos, torch.erf, torch.round),
            *(operator.neg, operator.abs, abs),
        ),
        methods=(
            *("relu", "relu_", "tanh", "tanh_", "sigmoid", "sigmoid_", "abs", "neg", "exp", "log", "sqrt", "rsqrt"),
            *("square", "sin", "cos", "erf", "round", "float", "half", "bfloat16", "double", "to", "contiguous"),
            *("clone", "detach"),
        ),
        window=windows.same,
        elementwise=True,
    ),
    LayerBehaviour(
        _POINTWISE,
        (nn.PReLU,),
        when=lambda call: call.module.num_parameters == 1,
        window=windows.same,
        elementwise=True,
    ),
    # arithmetic of several images, numbers and constants; elementwise where there is one image and no tensor
    LayerBehaviour(
        _POINTWISE,
        functions=(
            *_ARITHMETIC,
            *(torch.add, torch.sub, torch.mul, torch.div, torch.true_divide, torch.pow, torch.clamp, torch.lerp),
            *(torch.maximum, torch.minimum, torch.where, torch.addcmul, torch.addcdiv),
            *(operator.gt, operator.lt, operator.ge, operator.le),
        ),
        methods=(
            *("add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_", "pow", "clamp", "clamp_", "lerp", "maximum"),
            *("minimum", "addcmul", "addcdiv", "type_as", "clamp_min", "clamp_max"),
        ),
        window=windows.same,
        elementwise=True,
    ),
    # all channels of a pixel
    LayerBehaviour(_POINTWISE, functions=(torch.cat, torch.concat), when=conditions.channels, window=windows.same),
    LayerBehaviour(_POINTWISE, (nn.Softmax2d, nn.ChannelShuffle), window=windows.same),
    LayerBehaviour(
        _POINTWISE,
        (nn.Softmax, nn.LogSoftmax, nn.GLU),
        (F.softmax, F.log_softmax, F.glu, torch.softmax),
        ("softmax",),
        when=conditions.channels,
        window=windows.same,
    ),
    LayerBehaviour(
        _POINTWISE,
        functions=(torch.mean, torch.sum, torch.amax, torch.amin, torch.var, torch.std),
        methods=("mean", "sum", "amax", "amin", "var", "std"),
        when=conditions.keeps_dims,
        window=windows.same,
    ),
    LayerBehaviour(
        _POINTWISE, functions=(F.normalize,), when=lambda call: conditions.channels(call, 2, 1), window=windows.same
    ),
    LayerBehaviour(_POINTWISE, functions=(operator.getitem,), when=conditions.piece, window=windows.aligned),
    LayerBehaviour(_POINTWISE, functions=(operator.getitem,), when=conditions.channel_slice, window=windows.aligned),
    LayerBehaviour(
        Kind.SPLIT,
        functions=(torch.chunk, torch.split, torch.tensor_split),
        methods=("chunk", "split", "tensor_split"),
        when=lambda call: conditions.channels(call, 2, 0),
        window=windows.same,
    ),
    # numbers of its own for each channel
    LayerBehaviour(_AFFINE, (nn.PReLU,), (F.prelu, torch.prelu), window=windows.aligned),
    LayerBehaviour(
        _AFFINE,
        (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm),
        when=conditions.running,
        window=windows.same,
        keeps_float32=True,
    ),
    LayerBehaviour(_AFFINE, (nn.LocalResponseNorm,), (F.local_response_norm,), window=windows.same, keeps_float32=True),
    LayerBehaviour(
        _AFFINE, functions=(F.batch_norm,), when=lambda call: not call.get("training", 5, False), window=windows.aligned
    ),
    # the whole image
    LayerBehaviour(Kind.NORM, (nn.InstanceNorm2d,), when=conditions.of_the_image, keeps_float32=True),
    LayerBehaviour(Kind.NORM, (nn.GroupNorm,), keeps_float32=True),
    LayerBehaviour(
        Kind.WHOLE,
        (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.LayerNorm, nn.RMSNorm),
        (F.instance_norm, F.group_norm, F.layer_norm, F.batch_norm),
        keeps_float32=True,
    ),
    LayerBehaviour(
        Kind.WHOLE,
        (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Softmax, nn.LogSoftmax, nn.GLU, nn.CircularPad2d),
        (
            *(
                F.adaptive_avg_pool2d,
                F.adaptive_max_pool2d,
                F.softmax,
                F.log_softmax,
                F.glu,
                torch.softmax,
                F.normalize,
            ),
            *(torch.mean, torch.sum, torch.amax, torch.amin, torch.var, torch.std, torch.matmul, torch.bmm),
            *(operator.matmul, F.scaled_dot_product_attention),
        ),
        ("softmax", "mean", "sum", "amax", "amin", "var", "std", "matmul", "bmm"),
    ),
    # a window
    LayerBehaviour(Kind.CONVOLUTION, (nn.Conv2d,), (F.conv2d, torch.conv2d), window=windows.convolution),
    LayerBehaviour(
        Kind.TRANSPOSED, (nn.ConvTranspose2d,), (F.conv_transpose2d, torch.conv_transpose2d), window=windows.transposed
    ),
    LayerBehaviour(
        Kind.PAD,
        (nn.ReflectionPad2d, nn.ReplicationPad2d, nn.ConstantPad2d),
        (F.pad,),
        when=conditions.not_circular,
        window=windows.pad,
    ),
    LayerBehaviour(Kind.WHOLE, functions=(F.pad,), when=lambda call: call.get("mode", 2, "constant") == "circular"),
    LayerBehaviour(Kind.ENLARGE, (nn.PixelShuffle,), (F.pixel_shuffle, torch.pixel_shuffle), window=windows.shuffle),
    LayerBehaviour(
        Kind.UNSHUFFLE, (nn.PixelUnshuffle,), (F.pixel_unshuffle, torch.pixel_unshuffle), window=windows.unshuffle
    ),
    LayerBehaviour(
        Kind.ENLARGE, (nn.Upsample,), (F.interpolate,), when=conditions.whole_steps, window=windows.resampling
    ),
    LayerBehaviour(
        Kind.BILINEAR, (nn.Upsample,), (F.interpolate,), when=conditions.plain_bilinear, window=windows.resampling
    ),
    LayerBehaviour(Kind.WINDOWED, (nn.Upsample,), (F.interpolate,), window=windows.resampling),
    LayerBehaviour(Kind.WINDOWED, (nn.MaxPool2d,), (F.max_pool2d, torch.max_pool2d), window=windows.max_pooling),
    LayerBehaviour(Kind.WINDOWED, (nn.AvgPool2d,), (F.avg_pool2d,), window=windows.mean_pooling),
    LayerBehaviour(Kind.WINDOWED, functions=(operator.getitem,), when=conditions.cropped, window=windows.crop),
)


def find(call: Call) -> LayerBehaviour | None:
    """The first row that applies to a call; ``None`` for a layer that the table does not have."""
    return next((row for row in LAYERS if row.applies(call)), None)


def behaviour(call: Call) -> LayerBehaviour:
    """The row of a call.

    Raises:
        UnknownLayerError: there is none.
    """
    found = find(call)
    if found is None:
        raise UnknownLayerError(
            f"{call.title} is not in the table of layers: state tileable=False, or add a row to gankit_export/layers.py"
        )
    return found


def window(call: Call, axis: int) -> Window:
    """What a call reads along axis 0 (rows) or 1 (columns).

    Raises:
        UnknownLayerError: the layer is not in the table.
        WholeImageError: it reads the whole image.
    """
    row = behaviour(call)
    found = row.reads(call, axis)
    if found is None:
        raise WholeImageError(
            f"{call.title} depends on the whole image, which cannot be cut into tiles: tileable=False"
        )
    return found


def is_leaf(module: nn.Module) -> bool:
    """Whether the table names exactly this type, so that tracing does not look inside."""
    return any(type(module) in row.modules for row in LAYERS)


def module_kind(module: nn.Module) -> Kind | None:
    """The kind of a module by itself."""
    row = find(_call_of(module))
    return None if row is None else row.kind


def is_size(call: Call) -> bool:
    """Whether a call gives no image but a shape or a type."""
    row = find(call)
    return row is not None and row.kind is Kind.SIZE


def is_elementwise(call: Call) -> bool:
    """Whether a call applies one function to every value of one image, whatever its channel."""
    row = find(call)
    return row is not None and row.elementwise and len(call.node.all_input_nodes) == 1


def is_pointwise(call: Call) -> bool:
    """Whether each pixel of a call's result comes from the same pixel of one image."""
    row = find(call)
    return row is not None and row.kind in (_POINTWISE, _AFFINE) and len(call.node.all_input_nodes) == 1


def keeps_float32(module: nn.Module) -> bool:
    """Whether a module stays float32 in a narrow network."""
    return any(row.keeps_float32 and row.modules and isinstance(module, row.modules) for row in LAYERS)


def _call_of(module: nn.Module) -> Call:
    graph = fx.Graph()
    return Call(graph.call_module("module", (graph.placeholder("x"),)), module, {})
