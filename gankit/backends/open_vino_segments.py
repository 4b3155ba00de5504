"""Run a network of OpenVINO in segments: each over tiles of its own, with feature maps of the whole image between.

The result is that of the whole image. Tiles lie inside the image and share its borders, so that zero padding occurs
only there, and every segment brings the halo of its layers. Importing this module imports no torch and no OpenVINO.
"""

from __future__ import annotations

import math
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
from gankit_export.openvino_core import openvino_core

from gankit.backends.open_vino_cuts import Layers, Segment, layers_of, up
from gankit.backends.open_vino_graph import with_pixel_edges
from gankit.models.facts import Facts

_GRID = 16  # tiles have sides on it, so that images of many sizes share few of them
_SHAPES = 4  # of tiles for which a segment stays compiled, if it is compiled for one shape


@dataclass(frozen=True)
class Cutting:
    """How a network is cut and run.

    Attributes:
        values: see :meth:`~gankit.backends.open_vino_cuts.Layers.cut`.
        moved: see there.
        streams: tiles that run at once, each on its share of the threads.
        static: whether segments are compiled for the shape of their tiles, rather than for any.
    """

    values: int
    moved: int
    streams: int
    static: bool = False


@dataclass(frozen=True)
class Span:
    """One axis of a tile in input pixels. The tile reads [start, start + size) and keeps [keep, stop)."""

    start: int
    keep: int
    stop: int


Box = tuple[Span, Span, tuple[int, int]]
"""A tile: its vertical and horizontal span, and its height and width in input pixels."""


class CutGraph:
    """A graph of OpenVINO that can be cut, and the parts of it.

    Args:
        model: with one NCHW fp32 input, and folded constants.
        facts: facts of the generator.
        layers: of the model.
        bf16: whether feature maps between segments are kept in bf16, in place of fp32.
    """

    def __init__(self, model: Any, facts: Facts, layers: Layers, *, bf16: bool) -> None:
        self._model, self._facts = model, facts
        self.layers, self.bf16 = layers, bf16

    @classmethod
    def of(cls, model: Any, facts: Facts, *, bf16: bool) -> CutGraph | None:
        """Return a graph that can be cut; ``None`` if it must stay whole. The model is changed."""
        from openvino.passes import ConstantFolding, Manager

        passes = Manager()
        passes.register_pass(ConstantFolding())  # exporters spell biases with the ranks of images
        passes.run_passes(model)
        layers = layers_of(model, facts)
        return None if layers is None else cls(model, facts, layers, bf16=bf16)

    def is_kept(self, index: int) -> bool:
        """Whether the result of a layer is a feature map, rather than pixels."""
        return 0 < index < len(self.layers.layers) - 1

    def part(self, segment: Segment, dtype: np.dtype[Any]) -> Any:
        """Return the graph of a segment. Its images are (N, H, W, C), and sources and results in order of their index.

        Args:
            segment: the segment.
            dtype: of the pixels that the network reads and writes.
        """
        import openvino
        from openvino import opset13 as ops

        model = with_pixel_edges(self._model.clone(), self._facts, dtype)
        layers = self.layers.layers
        named = {operation.get_friendly_name(): operation for operation in model.get_ordered_ops()}
        inside = {layer.name for layer in layers[segment.start : segment.stop]}
        kind = "bf16" if self.bf16 else "f32"
        results = []
        for index in segment.results:
            if not self.is_kept(index):
                results.append(model.output(0).get_node().input_value(0))
                continue
            made = ops.transpose(named[layers[index].name].output(0), np.array([0, 2, 3, 1]))
            results.append((ops.convert(made, kind) if self.bf16 else made).output(0))
        parameters = []
        for index in segment.sources:
            if not self.is_kept(index):
                parameters.append(model.input(0).get_node())
                continue
            old = named[layers[index].name].output(0)
            shape = openvino.PartialShape([1, -1, -1, layers[index].channels])
            parameter = ops.parameter(shape, getattr(openvino.Type, kind))
            values = ops.transpose(ops.convert(parameter, "f32") if self.bf16 else parameter, np.array([0, 3, 1, 2]))
            for target in old.get_target_inputs():
                if target.get_node().get_friendly_name() in inside:
                    target.replace_source_output(values.output(0))
            parameters.append(parameter)
        return openvino.Model(results, parameters, "segment")


class SegmentedGraph:
    """Runs images through the segments of a network.

    Args:
        graph: the network.
        cutting: how to cut and run it.
        settings: of OpenVINO.
        dtype: of the pixels.
    """

    def __init__(self, graph: CutGraph, cutting: Cutting, settings: dict[str, Any], dtype: np.dtype[Any]) -> None:
        self._graph, self._dtype, self._cutting = graph, dtype, cutting
        several = {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": cutting.streams} if cutting.streams > 1 else {}
        self._settings = settings | several
        self.segments = graph.layers.cut(cutting.values, cutting.moved)
        self._requests: list[dict[tuple[int, ...], queue.SimpleQueue[Any]]] = [{} for _ in self.segments]
        self._pool = ThreadPoolExecutor(cutting.streams, "gankit-segments") if cutting.streams > 1 else None
        self._spare: list[np.ndarray] = []  # memory of feature maps, kept from image to image
        self._shape: tuple[int, ...] = ()

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Run images (N, H, W, C), whose sides are multiples of the network's unit, one after another."""
        return np.concatenate([self._image(pixels[index : index + 1]) for index in range(len(pixels))])

    def seconds(self, pixels: np.ndarray) -> float:
        """Estimate the seconds of one image (1, H, W, C) from the first tiles of every segment, run three times."""
        total = 0.0
        for number, segment in enumerate(self.segments):
            maps = {index: self._map(index, pixels.shape, np.zeros) for index in (*segment.sources, *segment.results)}
            boxes = list(self._boxes(segment, pixels.shape))
            first = boxes[: self._cutting.streams]
            clock = []
            for _ in range(3):  # the first compiles, and another program may disturb one of the others
                began = time.perf_counter()
                self._run(number, maps, first)
                clock.append(time.perf_counter() - began)
            total += min(clock) * math.ceil(len(boxes) / len(first))
        return total

    def close(self) -> None:
        """Release the compiled segments, the threads and the memory."""
        if self._pool is not None:
            self._pool.shutdown()
        self._requests = [{} for _ in self.segments]
        self._spare.clear()

    def _image(self, pixels: np.ndarray) -> np.ndarray:
        layers = self._graph.layers.layers
        if pixels.shape != self._shape:
            self._spare.clear()
            self._shape = pixels.shape
        maps = {0: pixels}
        for number, segment in enumerate(self.segments):
            maps |= {index: self._map(index, pixels.shape, self._taken) for index in segment.results}
            self._run(number, maps, list(self._boxes(segment, pixels.shape)))
            for index in [index for index in maps if layers[index].last < segment.stop]:
                self._spare.extend([maps.pop(index)] if self._graph.is_kept(index) else [])
        return maps[len(layers) - 1]

    def _map(self, index: int, shape: Sequence[int], make: Callable[[tuple[int, ...], Any], np.ndarray]) -> np.ndarray:
        """Return an array (1, H, W, C) for the result of a layer.

        Args:
            index: of the layer; 0 for the pixels.
            shape: of the pixels.
            make: allocates an array of a shape and a dtype.
        """
        layer = self._graph.layers.layers[index]
        size = (1, *(int(side * layer.rate) for side in shape[1:3]), layer.channels)
        if self._graph.is_kept(index):
            return make(size, np.dtype(np.uint16 if self._graph.bf16 else np.float32))
        return (np.zeros if index == 0 else np.empty)(size, self._dtype)

    def _tensor(self, index: int, array: np.ndarray) -> Any:
        """Return OpenVINO's view of pixels or a feature map; NumPy has no bf16."""
        import openvino

        if self._graph.is_kept(index) and self._graph.bf16:
            return openvino.Tensor(array, list(array.shape), openvino.Type.bf16)
        return openvino.Tensor(array, shared_memory=True)

    def _taken(self, size: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """Take memory that an earlier map has left, or allocate it."""
        for place, item in enumerate(self._spare):
            if item.shape == size and item.dtype == dtype:
                return self._spare.pop(place)
        return np.empty(size, dtype)

    def _boxes(self, segment: Segment, shape: Sequence[int]) -> Iterator[Box]:
        """The tiles of a segment, all of one shape."""
        unit, (height, width) = self._graph.layers.unit, shape[1:3]
        tall = even_side(height, segment.side, segment.halo, unit)
        wide = even_side(width, max(segment.side, up(segment.side**2 // tall, unit)), segment.halo, unit)
        for down in spans(height, tall, segment.halo):
            for across in spans(width, wide, segment.halo):
                yield down, across, (tall, wide)

    def _run(self, number: int, maps: dict[int, np.ndarray], boxes: Sequence[Box]) -> None:
        """Run the tiles of a segment."""
        segment = self.segments[number]
        free = self._free(number, boxes[0][2])

        def tile(box: Box) -> None:
            request = free.get()
            try:
                self._tile(request, segment, maps, box)
            finally:
                free.put(request)

        if self._pool is None:
            for box in boxes:
                tile(box)
            return
        calls = [self._pool.submit(tile, box) for box in boxes]
        try:
            for call in calls:
                call.result()
        finally:
            for call in calls:
                call.cancel()
            wait(calls)

    def _tile(self, request: Any, segment: Segment, maps: dict[int, np.ndarray], box: Box) -> None:
        """Run one tile, and copy what is kept of its results."""
        down, across, side = box
        layers = self._graph.layers.layers
        given = []
        for index in segment.sources:
            rate = layers[index].rate
            rows, columns = (
                slice(int(span.start * rate), int((span.start + length) * rate))
                for span, length in zip((down, across), side, strict=True)
            )
            # Copies: where tiles change their shape, the plugin misreads parts of a larger tensor, and writes beyond.
            given.append(np.ascontiguousarray(maps[index][:, rows, columns]))
        for port, (index, part) in enumerate(zip(segment.sources, given, strict=True)):  # `given` keeps them alive
            request.set_input_tensor(port, self._tensor(index, part))
        request.infer(share_outputs=True)
        for port, index in enumerate(segment.results):
            rate = layers[index].rate
            to = tuple(slice(int(span.keep * rate), int(span.stop * rate)) for span in (down, across))
            of = tuple(
                slice(int((span.keep - span.start) * rate), int((span.stop - span.start) * rate))
                for span in (down, across)
            )
            array = maps[index]
            array[:, to[0], to[1]] = request.get_output_tensor(port).data.view(array.dtype)[:, of[0], of[1]]

    def _free(self, number: int, side: tuple[int, int]) -> queue.SimpleQueue[Any]:
        """Return the requests of a segment, which are compiled when they are first needed."""
        segment, made = self.segments[number], self._requests[number]
        key = side if self._cutting.static else ()
        if key not in made:
            part = self._graph.part(segment, self._dtype)
            if self._cutting.static:
                if len(made) >= _SHAPES:
                    made.clear()
                layers = [self._graph.layers.layers[index] for index in segment.sources]
                part.reshape(
                    {
                        port: [1, *(int(one * layer.rate) for one in side), layer.channels]
                        for port, layer in enumerate(layers)
                    }
                )
            compiled = openvino_core().compile_model(part, "CPU", self._settings)
            made[key] = queue.SimpleQueue()
            for _ in range(self._cutting.streams):
                made[key].put(compiled.create_infer_request())
        return made[key]


def even_side(length: int, side: int, halo: int, unit: int) -> int:
    """Return the side of equal tiles that waste the least, of about a given side or less.

    Args:
        length: of the image along the axis, a multiple of the unit.
        side: wanted, with the halo on both ends.
        halo: of a tile, a multiple of the unit.
        unit: that tiles start and end at.
    """
    if side >= length:
        return length
    count = math.ceil((length - 2 * halo) / (side - 2 * halo))
    return min(length, up(math.ceil((length - 2 * halo) / count) + 2 * halo, math.lcm(_GRID, unit)))


def spans(length: int, side: int, halo: int) -> list[Span]:
    """Cut an axis into tiles of one side, of which the last is shifted inwards. What they keep covers it once."""
    found, start, keep = [], 0, 0
    while start + side < length:
        found.append(Span(start, keep, start + side - halo))
        keep, start = start + side - halo, start + side - 2 * halo
    return [*found, Span(length - side, keep, length)]
