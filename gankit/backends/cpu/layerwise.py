"""Whole-image norms in a bounded memory: all strips of an image, layer by layer.

An InstanceNorm needs the mean and variance of the whole image, so that tiles by themselves are wrong: each would be
normalised by its own. Here every layer runs over all strips of the image before the next one begins. While a layer's
output is written, the statistics of its strips are merged (Chan et al. 1983), so that the norm behind it knows those of
the whole image. The result is the untiled one to the rounding of float32.

What a layer leaves for the next is held in memory up to a limit, and beyond it in a temporary file.
"""

from __future__ import annotations

import copy
import itertools
import math
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gankit_export.calls import UnknownLayerError, calls
from gankit_export.layers import is_elementwise
from torch import Tensor, fx

from gankit.backends.cpu.layers import operation
from gankit.backends.cpu.operation import Operation

STRIP_BYTES = 16 << 20  # a layer's output in one strip
_LEAST_ROWS = 4


@dataclass
class Statistics:
    """Mean and sum of squared deviations of every channel, merged strip by strip.

    Attributes:
        count: values of one channel so far.
        mean: (C,) float64.
        squares: (C,) float64, the sum of (x - mean)².
    """

    count: int
    mean: Tensor
    squares: Tensor

    @classmethod
    def none(cls, channels: int) -> Statistics:
        """Of no values yet."""
        return cls(0, torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64))

    def add(self, rows: Tensor) -> None:
        """Take in (1, C, rows, W)."""
        count = rows.shape[2] * rows.shape[3]
        variance, mean = torch.var_mean(rows.float(), dim=(0, 2, 3), correction=0)
        mean = mean.double()
        step, total = mean - self.mean, self.count + count
        self.mean = self.mean + step * (count / total)
        self.squares = self.squares + variance.double() * count + step**2 * (self.count * count / total)
        self.count = total

    def grouped(self, groups: int) -> tuple[Tensor, Tensor]:
        """Mean and variance of every channel, those of its group of channels; (C,) float32 each."""
        mean = self.mean.view(groups, -1)
        whole = mean.mean(1, keepdim=True)
        variance = (self.squares.view(groups, -1) / self.count + (mean - whole) ** 2).mean(1, keepdim=True)
        size = mean.shape[1]
        return whole.repeat_interleave(size).float(), variance.repeat_interleave(size).float()


class Layerwise:
    """A traced generator that runs one image in strips, layer by layer.

    Args:
        module: the traced generator, eval mode, on the CPU.
        max_bytes: what the layers' outputs may take in memory; further ones go to a temporary file.
        strip_bytes: how large one layer's output of one strip may be.

    Raises:
        UnknownLayerError: the network does not return one image.
    """

    def __init__(self, module: fx.GraphModule, max_bytes: int, strip_bytes: int = STRIP_BYTES) -> None:
        self.module, self._max_bytes, self._strip_bytes = module, max_bytes, strip_bytes
        self._operations: dict[fx.Node, Operation] = {node: operation(call) for node, call in calls(module).items()}
        if self._output not in self._operations:
            raise UnknownLayerError(f"{type(module).__name__} must return one image to run layerwise")
        self._kept = self._find_kept()
        self._reads = {node: self._sources(self._inputs(node)) for node in self._kept}
        self._last = self._sources([self._output])

    @property
    def _output(self) -> Any:
        """What the network returns."""
        return next(node for node in self.module.graph.nodes if node.op == "output").args[0]

    def run(self, image: Tensor, write: Callable[[Tensor, int], None]) -> None:
        """Run one image.

        Args:
            image: (1, C, H, W) in the generator's values and precision.
            write: called with (1, C', rows, W') results from the top on and the index of their first row.
        """
        with tempfile.TemporaryDirectory(prefix="gankit-") as folder:
            _Run(self, image, Path(folder)).finish(write)

    def _find_kept(self) -> list[fx.Node]:
        """The nodes whose value is stored: convolutions, what norms look at, what is read twice or needed whole."""
        kept = set()
        for node, what in self._operations.items():
            readers = [item for item in node.users if item not in self._operations or not self._operations[item].size]
            if what.heavy or what.whole or len(readers) > 1:
                kept.add(node)
            if what.statistics or what.whole:
                kept.update(self._inputs(node))
        kept -= {node for node, what in self._operations.items() if not what.stored}
        return [node for node in self.module.graph.nodes if node in kept]

    def _inputs(self, node: fx.Node) -> list[fx.Node]:
        """The nodes that a node's value is made of; of a shape or type, none."""
        what = self._operations.get(node)
        return [] if what is None or what.size else list(what.call.images)

    def _sources(self, waiting: list[fx.Node]) -> list[fx.Node]:
        """The stored nodes that the rows of nodes are made of."""
        found, waiting, kept = [], list(waiting), set(self._kept)
        while waiting:
            item = waiting.pop()
            if item in kept:
                found.append(item)
            else:
                waiting += self._inputs(item)
        return list(dict.fromkeys(found))


class _Values(fx.Interpreter):
    """Notes the shape of every tensor, and the value of what is none: sizes, types and tuples.

    Args:
        module: on the device "meta", where nothing is computed.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.extra_traceback = False
        self._calls = calls(module)

    def run_node(self, n: fx.Node) -> Any:
        call = self._calls.get(n)
        if call is not None and call.called is not None and is_elementwise(call):
            result = self.env[call.images[0]]  # its size, without the layer, which may know no such device
        else:
            try:
                result = super().run_node(n)
            except Exception as error:
                title = str(n) if call is None else call.title
                line = next(iter(str(error).splitlines()), type(error).__name__)
                raise UnknownLayerError(f"{title} cannot say the size of its result: {line}") from error
        if isinstance(result, Tensor):
            n.meta["shape"] = tuple(result.shape)
        else:
            n.meta["value"] = torch.device("cpu") if isinstance(result, torch.device) else result
        return result


def shapes(module: fx.GraphModule, image: Tensor) -> dict[fx.Node, tuple[int, ...]]:
    """The shape of every node's value for such an image; computes nothing.

    Raises:
        UnknownLayerError: a layer cannot say the size of its result, or does not take such an image.
    """
    return _shapes(_propagated(module, image))


def _shapes(values: dict[fx.Node, dict[str, Any]]) -> dict[fx.Node, tuple[int, ...]]:
    return {node: meta["shape"] for node, meta in values.items() if "shape" in meta}


def _propagated(module: fx.GraphModule, image: Tensor) -> dict[fx.Node, dict[str, Any]]:
    double = copy.deepcopy(module).to("meta")
    with torch.no_grad():
        _Values(double).run(torch.empty_like(image, device="meta"))
    return {node: other.meta for node, other in zip(module.graph.nodes, double.graph.nodes, strict=True)}


def working_bytes(module: fx.GraphModule, image: Tensor, itemsize: int) -> int:
    """What the layers' outputs take at their peak where the image runs at once, layer by layer.

    A convolution's own work space, and what a runtime keeps for later, come on top.

    Args:
        module: the traced generator.
        image: (N, C, H, W) in the module's precision; its values do not matter.
        itemsize: bytes of a value in the precision that will run.
    """
    sizes = {node: math.prod(shape) * itemsize for node, shape in shapes(module, image).items()}
    last = {source: node for node in module.graph.nodes for source in node.all_input_nodes}
    held = peak = 0
    for node in module.graph.nodes:
        held += sizes.get(node, 0)
        peak = max(peak, held)
        held -= sum(sizes.get(source, 0) for source in set(node.all_input_nodes) if last[source] is node)
    return peak


class _Run:
    """The state of one image's run."""

    def __init__(self, plan: Layerwise, image: Tensor, folder: Path) -> None:
        self._plan, self._image, self._folder = plan, image, folder
        values = _propagated(plan.module, image)
        self._shapes = _shapes(values)
        self._sizes = {node: values[node]["value"] for node, what in plan._operations.items() if what.size}
        self._stored: dict[fx.Node, Tensor] = {}
        self._statistics: dict[fx.Node, Statistics] = {}
        self._held = 0
        self._readers = Counter(source for sources in [*plan._reads.values(), plan._last] for source in sources)
        self._watched = {what.source for what in plan._operations.values() if what.statistics}

    def finish(self, write: Callable[[Tensor, int], None]) -> None:
        result = self._plan._output
        if not self._is_image(result):
            title = self._plan._operations[result].call.title
            raise UnknownLayerError(f"{title} gives no image, which the last layer of a layerwise run must")
        for node in self._plan._kept:
            self._store(node)
            self._release(node)
        for start, stop in self._strips(result):
            write(self._rows(result, start, stop), start)

    def _store(self, node: fx.Node) -> None:
        what = self._plan._operations.get(node)
        if what is not None and not self._is_image(node):  # such as one number for each channel
            value = self._stored[node] = what.run(self._read_whole) if what.whole else self._compute(node, 0, 1)
            self._held += value.nbytes
            return
        target = self._stored[node] = self._space(node)
        statistics = Statistics.none(target.shape[1]) if node in self._watched else None
        if what is not None and what.whole:
            target.copy_(what.run(self._read_whole))
        strips = [(0, target.shape[2])] if what is not None and what.whole else self._strips(node)
        for start, stop in strips:
            if what is None or not what.whole:
                target[:, :, start:stop] = self._compute(node, start, stop)
            if statistics is not None:
                for first in range(start, stop, 64):
                    statistics.add(target[:, :, first : min(stop, first + 64)])
        if statistics is not None:
            self._statistics[node] = statistics

    def _release(self, node: fx.Node) -> None:
        """Forget what nobody reads any more. Statistics are small and stay."""
        for source in self._plan._reads[node]:
            self._readers[source] -= 1
            if not self._readers[source] and source in self._stored:
                gone = self._stored.pop(source)
                self._held -= gone.nbytes

    def _space(self, node: fx.Node) -> Tensor:
        """Room for a node's value, channels_last, in memory or in a file."""
        count, channels, height, width = self._shapes[node]
        shape = (count, height, width, channels)
        dtype = self._image.dtype
        size = math.prod(shape)
        if self._held + size * dtype.itemsize > self._plan._max_bytes:
            path = self._folder / f"{node.name}.bin"
            # In a file it counts as held too: the operating system keeps of it what it has room for.
            flat = torch.from_file(str(path), shared=True, size=size, dtype=dtype)
            path.unlink()  # the room is given back as soon as the tensor goes
        else:
            flat = torch.empty(size, dtype=dtype)
        self._held += size * dtype.itemsize
        return flat.view(shape).permute(0, 3, 1, 2)

    def _strips(self, node: fx.Node) -> list[tuple[int, int]]:
        _, channels, height, width = self._shapes[node]
        row = max(channels, 64) * width * 4
        count = -(-height // max(_LEAST_ROWS, self._plan._strip_bytes // row))
        edges = [height * index // count for index in range(count + 1)]
        return list(itertools.pairwise(edges))

    def _is_image(self, node: fx.Node) -> bool:
        return len(self._shapes.get(node, ())) == 4

    def _height(self, node: fx.Node) -> int:
        """Rows of a node's value; 1 of what is no image, and those of the image of a tuple of its channels."""
        what = self._plan._operations.get(node)
        if what is not None and not (what.stored or what.size):
            return self._height(what.source)
        return self._shapes[node][2] if self._is_image(node) else 1

    def _rows(self, node: fx.Node, start: int, stop: int) -> Any:
        """Rows of a node's value, stored or made now; the whole of what is no image."""
        if node in self._sizes:
            return self._sizes[node]
        stored = self._stored.get(node)
        if stored is not None:
            return stored[:, :, start:stop] if self._is_image(node) else stored
        return self._compute(node, start, stop)

    def _compute(self, node: fx.Node, start: int, stop: int) -> Tensor:
        if node.op == "placeholder":
            return self._image[:, :, start:stop]
        return self._plan._operations[node].rows(start, stop, self._rows, self._height, self._statistics.get)

    def _read_whole(self, node: fx.Node) -> Any:
        return self._rows(node, 0, self._height(node))
