"""The exact halo of a generator: how far an output pixel sees, computed from its graph."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor, lcm

from torch import fx, nn

from gankit_export.calls import Call, UnknownLayerError, calls
from gankit_export.layers import is_size, window
from gankit_export.tracing import trace
from gankit_export.window import Window

_LONGEST_PERIOD = 4096


def halo(generator: nn.Module) -> int:
    """How many input pixels on each side the output pixels of one input pixel depend on.

    Going back from the output, the rows that are needed of every layer are those that its readers need; each layer's
    window says which rows of its input these come from. Where layers have strides, pixels differ in what they see: the
    one that sees farthest counts. 40 for SRGAN ×4: 4 + 33 + 1 + 1/2 + 1 in input pixels, rounded up.

    Args:
        generator: a network whose layers are in the table, :data:`gankit_export.layers.LAYERS`.

    Raises:
        WholeImageError: a layer looks at the whole image, such as InstanceNorm.
        UnknownLayerError: a layer is not in the table.
        ValueError: the network has no graph.
    """
    traced = trace(generator)
    (output,) = (node for node in traced.graph.nodes if node.op == "output")
    result = output.args[0]
    if not isinstance(result, fx.Node):
        raise UnknownLayerError(f"{type(generator).__name__} must return one image to have a receptive field")
    layers = calls(traced)
    layers = {node: call for node, call in layers.items() if not is_size(call)}
    return max(_reach(layers, result, axis) for axis in (0, 1))


def _windows(layers: dict[fx.Node, Call], axis: int) -> dict[fx.Node, Window]:
    """The window of every layer; one that sees the whole image settles the matter, whatever the others are."""
    found: dict[fx.Node, Window] = {}
    unknown: UnknownLayerError | None = None
    for node, call in layers.items():
        try:
            found[node] = window(call, axis)
        except UnknownLayerError as error:
            unknown = unknown or error
    if unknown is not None:
        raise unknown
    return found


def _reach(layers: dict[fx.Node, Call], result: fx.Node, axis: int) -> int:
    """The halo along one axis."""
    looks = _windows(layers, axis)
    rates = _rates(layers, looks)
    period = lcm(*(rate.denominator for rate in rates.values()), 1)
    if period > _LONGEST_PERIOD:
        raise UnknownLayerError(
            f"layers of scale factors that never meet repeat after {period} pixels: state tileable=False"
        )
    farthest, rate = 0, rates.get(result, Fraction(1))
    for pixel in range(period):
        start = floor(pixel * rate)
        low, high = _seen(layers, looks, result, (start, max(start + 1, ceil((pixel + 1) * rate))))
        farthest = max(farthest, pixel - low, high - 1 - pixel)
    return farthest


def _rates(layers: dict[fx.Node, Call], looks: dict[fx.Node, Window]) -> dict[fx.Node, Fraction]:
    """Pixels of every node's value for each input pixel."""
    rates: dict[fx.Node, Fraction] = {}
    for node, call in layers.items():
        # A size beside the image, as in y[:, :, : x.shape[2]], is of no resolution.
        found = {rates.get(item, Fraction(1)) for item in call.images if item in layers or item.op == "placeholder"}
        if len(found) != 1:
            raise UnknownLayerError(f"{call.title} joins images of different sizes: state tileable=False")
        rates[node] = found.pop() * looks[node].rate
    return rates


def _seen(
    layers: dict[fx.Node, Call], looks: dict[fx.Node, Window], result: fx.Node, rows: tuple[int, int]
) -> tuple[int, int]:
    """The first input row that output rows depend on, and one behind the last."""
    needed = {result: rows}
    for node in reversed(layers):
        if node not in needed:
            continue
        low, high = looks[node].needs(*needed.pop(node))
        for item in layers[node].images:
            if item in layers or item.op == "placeholder":
                first, last = needed.get(item, (low, high))
                needed[item] = min(first, low), max(last, high)
    inputs = list(needed.values())
    return min(low for low, _ in inputs), max(high for _, high in inputs)
