"""The exact halo of a generator: how far an output pixel sees, computed from its graph."""

from __future__ import annotations

import math
from fractions import Fraction

from gankit_export.rewrites import trace
from torch import fx, nn

_POINTWISE_FUNCTIONS = {"add", "iadd", "mul", "sub", "truediv", "relu", "tanh", "clamp", "sigmoid", "leaky_relu", "cat"}
_POINTWISE_METHODS = {"add", "add_", "mul", "mul_", "sub", "div", "clamp", "tanh", "relu", "float", "to", "contiguous"}
_POINTWISE_MODULES = (
    nn.PReLU,
    nn.LeakyReLU,
    nn.ReLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Identity,
    nn.Dropout,
    nn.BatchNorm2d,
)


def halo(generator: nn.Module) -> int:
    """How many input pixels around a tile its output depends on, on each side.

    Along every path of the traced graph a k×k convolution of dilation d at a resolution r times the input's adds
    d·(k - 1) / 2r; the longest path counts. 4 + 33 + 1 + 1/2 + 1 = 39.5, so 40, for SRGAN ×4.

    Args:
        generator: a network of convolutions, pointwise layers, PixelShuffle and the like.

    Raises:
        ValueError: a layer looks at the whole image (InstanceNorm) or is not known.
    """
    traced = trace(generator)
    modules = dict(traced.named_modules())
    reach: dict[fx.Node, tuple[Fraction, Fraction]] = {}  # input pixels seen, resolution relative to the input
    for node in traced.graph.nodes:
        inputs = [reach[item] for item in node.all_input_nodes if item in reach]
        if node.op == "placeholder":
            reach[node] = (Fraction(0), Fraction(1))
        elif node.op == "get_attr":
            continue
        elif node.op == "output":
            return math.ceil(inputs[0][0])
        else:
            seen, rate = max(inputs)[0], max(item[1] for item in inputs)
            reach[node] = _step(node, modules, seen, rate)
    raise ValueError("the graph has no output")


def _step(node: fx.Node, modules: dict[str, nn.Module], seen: Fraction, rate: Fraction) -> tuple[Fraction, Fraction]:
    if node.op == "call_module":
        module = modules[str(node.target)]
        if isinstance(module, nn.Conv2d) and module.stride == (1, 1):
            size, dilation = module.kernel_size[0], module.dilation[0]
            return seen + Fraction(dilation * (size - 1), 2) / rate, rate
        if isinstance(module, nn.PixelShuffle):
            # A pixel at sub-row s reads its whole low-resolution pixel; the ceil at the end covers what is finer.
            return seen, rate * module.upscale_factor
        if isinstance(module, nn.PixelUnshuffle):
            # All pixels of a folded one are seen: from the first to the last of them in the worst place.
            return seen + (module.downscale_factor - 1) / rate, rate / module.downscale_factor
        if isinstance(module, nn.Upsample) and module.mode in ("nearest", "bilinear"):
            seen += Fraction(module.mode == "bilinear") / rate  # between a pixel and the next
            return seen, rate * Fraction(float(module.scale_factor))  # type: ignore[arg-type]
        if isinstance(module, _POINTWISE_MODULES):
            return seen, rate
        raise ValueError(f"{type(module).__name__} has no known receptive field")
    name = getattr(node.target, "__name__", str(node.target))
    if name in (_POINTWISE_FUNCTIONS if node.op == "call_function" else _POINTWISE_METHODS):
        return seen, rate
    raise ValueError(f"{name} has no known receptive field")
