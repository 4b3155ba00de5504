"""Where a graph of OpenVINO can be cut in depth: segments of a few layers, each with a halo of its own.

A tile of a whole network must bring the halo of all its layers, and a whole image leaves the cache after every layer.
A segment of a few layers needs a halo of a few pixels, so that its tiles waste little and stay in the cache. What later
segments read is kept for the whole image. Importing this module imports no torch and no OpenVINO.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from operator import itemgetter
from typing import Any

from gankit_export.window import SAME, Window

from gankit.models.facts import Facts

_FARTHEST = 32  # halo of a segment in input pixels; a larger one wastes more than it saves
_LEAST_KEPT = 32  # pixels of a tile's side that are kept
_POINTWISE = frozenset((
    "Abs", "Add", "Clamp", "Convert", "Divide", "Elu", "Exp", "Gelu", "HSigmoid", "HSwish", "HardSigmoid", "Identity",
    "Maximum", "Minimum", "Mish", "Multiply", "Negative", "PRelu", "Power", "Relu", "Selu", "Sigmoid", "SoftPlus",
    "Sqrt", "Subtract", "Swish", "Tanh",
))  # fmt: skip
_CONVOLUTIONS = frozenset(("Convolution", "GroupConvolution"))
_TRANSPOSED = frozenset(("ConvolutionBackpropData", "GroupConvolutionBackpropData"))
_POOLINGS = frozenset(("AvgPool", "MaxPool"))
_SHUFFLES = frozenset(("DepthToSpace", "SpaceToDepth"))


@dataclass(frozen=True)
class Layer:
    """An operation whose result is an image.

    Attributes:
        name: friendly name of the operation, which no other has.
        sources: the layers whose results it reads, by their index.
        window: what it reads of them along either axis.
        rate: rows of its result for each row of the network's input.
        channels: of its result.
        work: multiplications for each input pixel.
        last: index of the last layer that reads its result.
    """

    name: str
    sources: tuple[int, ...]
    window: Window
    rate: Fraction
    channels: int
    work: float
    last: int

    @cached_property
    def values(self) -> float:
        """Values of its result for each input pixel."""
        return float(self.channels * self.rate**2)


@dataclass(frozen=True)
class Segment:
    """Consecutive layers that run together, tile by tile.

    Attributes:
        start: index of the first layer.
        stop: one behind the last.
        halo: input pixels that a tile needs around what is kept of it, a multiple of the network's unit.
        sources: the earlier layers whose results it reads.
        results: its layers whose results later segments read; the last layer in the last segment.
        side: of a tile with its halo, in input pixels.
    """

    start: int
    stop: int
    halo: int
    sources: tuple[int, ...]
    results: tuple[int, ...]
    side: int


@dataclass(frozen=True)
class Layers:
    """The layers of a network in the order in which they run: first its input, last its result.

    Attributes:
        layers: the layers.
        unit: tiles start and end at multiples of it, in input pixels, so that strides meet the same phase in each.
    """

    layers: tuple[Layer, ...]
    unit: int

    def cut(self, values: int, moved: int) -> tuple[Segment, ...]:
        """Cut the network where the work of the halos and the values that are copied cost the least together.

        Args:
            values: number of values that a layer of a tile reads and writes, which sets the size of the tiles.
            moved: multiplications that copying a value to a tile, or from it, costs: more of them make deeper segments.
        """
        places = self._places()
        best: dict[int, tuple[float, tuple[Segment, ...]]] = {places[0]: (0.0, ())}
        for stop in places[1:]:
            choices = [
                (best[segment.start][0] + cost, (*best[segment.start][1], segment))
                for cost, segment in self._ending(stop, values, moved)
            ]
            best[stop] = min(choices, key=itemgetter(0))
        return best[places[-1]][1]

    def _places(self) -> list[int]:
        """Where a segment may begin: before layers that read more than one pixel, or change the resolution."""
        layers = self.layers
        inner = [index for index in range(2, len(layers)) if layers[index].window != SAME]
        return [1, *inner, len(layers)]

    def _ending(self, stop: int, values: int, moved: int) -> Iterator[tuple[float, Segment]]:
        """The segments that end before a layer, each with its cost, the shortest first."""
        layers, places = self.layers, set(self._places())
        crossing = [index for index in range(stop) if layers[index].last >= stop]
        needs: dict[int, tuple[int, int]] = dict.fromkeys(crossing, (0, 0))  # rows before and behind, of its own
        work = most = 0.0
        for start in range(stop - 1, 0, -1):
            layer = layers[start]
            first, last = needs.pop(start)  # every layer is read by a later one, or is the last
            low, high = layer.window.needs(-first, last)
            for source in layer.sources:
                before, behind = needs.get(source, (0, 0))
                needs[source] = max(before, -low), max(behind, high)
            work += layer.work
            most = max(most, layer.values + sum(layers[source].values for source in layer.sources))
            if start not in places:
                continue
            halo = max(math.ceil(max(rows) / layers[index].rate) for index, rows in needs.items())
            halo = up(halo, self.unit)
            sources = tuple(sorted({item for one in layers[start:stop] for item in one.sources if item < start}))
            results = tuple(index for index in crossing if index >= start)
            if halo > _FARTHEST and start < stop - 1 and start != max(place for place in places if place < stop):
                return
            side = max(up(math.isqrt(int(values / most)), self.unit), 2 * halo + up(_LEAST_KEPT, self.unit))
            copied = sum(layers[index].values for index in (*sources, *results))
            cost = work * (side / (side - 2 * halo)) ** 2 + moved * copied
            yield cost, Segment(start, stop, halo, sources, results, side)


def layers_of(model: Any, facts: Facts) -> Layers | None:
    """Find the layers of a network that can be cut.

    Args:
        model: OpenVINO model with one NCHW fp32 input, whose constants are folded.
        facts: facts of the generator, which say what sizes it takes.

    Returns:
        ``None`` for a network that must stay whole: one of its operations sees the whole image or is not known, its
        results do not grow in proportion with the image, or it takes images of one size only.
    """
    step = math.lcm(facts.multiple, 16)
    sides = (up(max(64, facts.minimum), step), up(max(64, facts.minimum), step) + step)
    probe = model.clone()
    try:
        probe.reshape([1, facts.channels, *sides])
    except RuntimeError:
        return None
    found: dict[str, int] = {}
    read: list[tuple[Any, tuple[int, ...], Window, Fraction]] = []
    for operation in probe.get_ordered_ops():
        name, kind = operation.get_friendly_name(), operation.get_type_name()
        names = [value.get_node().get_friendly_name() for value in operation.input_values()]
        sources = tuple(found[item] for item in names if item in found)
        if kind == "Result":
            break
        if not sources and kind != "Parameter":
            continue  # a constant
        output = operation.output(0)
        shape, kept = tuple(output.get_shape()), output.get_element_type().get_type_name() == "f32"
        rates = {Fraction(out, side) for out, side in zip(shape[2:], sides, strict=False)}
        if name in found or len(shape) != 4 or len(rates) != 1 or not kept:
            return None
        rate = rates.pop()
        window = SAME if kind == "Parameter" else _window(operation, found, rate / read[sources[0]][3])
        if window is None or any(rate != window.rate * read[source][3] for source in sources):
            return None
        found[name] = len(read)
        read.append((operation, sources, window, rate))
    last = {source: index for index, (_, sources, _, _) in enumerate(read) for source in sources}
    layers = tuple(
        Layer(
            operation.get_friendly_name(),
            sources,
            window,
            rate,
            int(operation.output(0).get_shape()[1]),
            _work(operation) / math.prod(sides),
            last.get(index, len(read)),
        )
        for index, (operation, sources, window, rate) in enumerate(read)
    )
    return Layers(layers, math.lcm(facts.multiple, *(layer.rate.denominator for layer in layers)))


def up(value: int, multiple: int) -> int:
    """Round up to a multiple."""
    return -(-value // multiple) * multiple


def _window(operation: Any, images: dict[str, int], rate: Fraction) -> Window | None:
    """What an operation reads of its sources; ``None`` if that is not known, or is the whole image."""
    kind, attributes = operation.get_type_name(), operation.get_attributes()
    constants = [value for value in operation.input_values() if value.get_node().get_friendly_name() not in images]
    if any(len(value.get_target_inputs()) for value in operation.outputs()[1:]):
        return None
    if kind in _POINTWISE:
        shapes = [list(value.get_shape()) for value in constants]
        spreads = any(side != 1 for shape in shapes for side in shape[-2:])
        slopes = kind == "PRelu" and len(shapes) == 1 and len(shapes[0]) == 1  # one for each channel
        return None if spreads and not slopes else SAME
    if kind == "Concat":
        return SAME if not constants and attributes["axis"] in (1, -3) else None
    if kind in _SHUFFLES:
        return Window(rate, high=max(1 / rate - 1, Fraction(0)))
    if kind == "Interpolate":
        return _resampling(attributes, rate)
    if kind in _POOLINGS:
        return _widest(attributes["kernel"], attributes, rate)
    if kind in _CONVOLUTIONS | _TRANSPOSED and len(constants) == len(operation.input_values()) - 1:
        return _widest(constants[0].get_shape()[-2:], attributes, rate, transposed=kind in _TRANSPOSED)
    return None


def _widest(kernel: Any, attributes: dict[str, Any], rate: Fraction, *, transposed: bool = False) -> Window | None:
    """The window of a convolution or pooling, that of the axis on which it is wider."""
    if attributes["auto_pad"] not in ("explicit", "valid"):
        return None
    low, high = Fraction(0), Fraction(0)
    for axis in (0, 1):
        stride, before = int(attributes["strides"][axis]), int(attributes["pads_begin"][axis])
        reach = int(attributes.get("dilations", (1, 1))[axis]) * (int(kernel[axis]) - 1)
        if transposed:  # row o has something of row i where i·stride - before <= o <= i·stride - before + reach
            low = min(low, Fraction(before - reach + stride - 1, stride))
            high = max(high, Fraction(before, stride))
        else:
            low, high = min(low, Fraction(-before)), max(high, Fraction(reach - before))
        if rate != (Fraction(stride) if transposed else Fraction(1, stride)):
            return None
    return Window(rate, low, high)


def _resampling(attributes: dict[str, Any], rate: Fraction) -> Window | None:
    """At least what an enlargement or a reduction reads."""
    place, mode = attributes["coordinate_transformation_mode"], attributes["mode"]
    if attributes["antialias"] or place in ("align_corners", "tf_half_pixel_for_nn"):
        return None
    if mode == "nearest" and rate.denominator == 1 and (place, attributes["nearest_mode"]) == ("asymmetric", "floor"):
        return Window(rate)
    taps = {"nearest": 1, "linear": 1, "linear_onnx": 1, "cubic": 2}.get(mode)
    return None if taps is None else Window(rate, Fraction(-taps), taps + math.ceil(1 / rate) - Fraction(1))


def _work(operation: Any) -> float:
    """Multiplications of an operation."""
    kind = operation.get_type_name()
    if kind not in _CONVOLUTIONS | _TRANSPOSED:
        return 0.0
    kernel = list(operation.input_value(1).get_shape())
    image = operation.input_value(0) if kind in _TRANSPOSED else operation.output(0)
    grouped = kind.startswith("Group")
    return float(math.prod(image.get_shape()) * math.prod(kernel[2 if grouped else 1 :]))
