"""Run a chain of convolutions over horizontal strips, with no halo and nothing computed twice.

Every layer keeps the last rows that it has seen, so an image of any height flows through with a working set that fits
the cache. The pixels are those of the whole image at once, for any depth of network.

A traced generator becomes a graph of *stages*. Rows are pushed into a stage and it pushes what has become known to the
next. Rows handed to a stage are valid during the call only: a stage that keeps some copies them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx, nn

from gankit.backends.cpu.stage import NotStreamableError, nowhere
from gankit.backends.cpu.stages import Convolutions, build_stages
from gankit.backends.cpu.winograd import strip_rows

__all__ = ["STRIP_BYTES", "NotStreamableError", "Stream"]

STRIP_BYTES = 8 << 20  # one layer's output for one strip: a few of them fit a shared cache


class Stream:
    """A generator arranged for strips. One thread at a time may run it; copies run at the same time.

    Args:
        module: a traced generator (:func:`gankit_export.rewrites.for_inference`) in the precision to run in.
        strip_bytes: how large one layer's output of one strip may be.
        convolutions: those of another stream of the same module, to share their weights.
        winograd: whether convolutions run by Winograd's algorithm where they can, which needs llvmlite.

    Attributes:
        module: the traced generator.
        pixel_bytes: of the output of the first convolution, for one pixel.

    Raises:
        NotStreamableError: a layer needs the whole image, or is not known.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        strip_bytes: int = STRIP_BYTES,
        convolutions: Convolutions | None = None,
        winograd: bool = False,
    ) -> None:
        self.module, self._bytes, self._winograd = module, strip_bytes, winograd
        self._convolutions: Convolutions = {} if convolutions is None else convolutions
        self._source, self._sink, self._stages = build_stages(module, strip_bytes, self._convolutions, winograd)
        # How large a strip is goes by the first layer's output.
        first = next((item for item in module.modules() if isinstance(item, nn.Conv2d)), None)
        self.pixel_bytes = 16 if first is None else first.out_channels * first.weight.element_size()

    def copy(self, strip_bytes: int) -> Stream:
        """Return another stream that shares the weights, for strips of another size."""
        return Stream(self.module, strip_bytes, self._convolutions, self._winograd)

    def run(
        self,
        image: Tensor,
        prepare: Callable[[Tensor], Tensor],
        write: Callable[[Tensor, int], None],
        first: int = 0,
        end: bool = True,
    ) -> None:
        """Stream one image, or some rows of it.

        Args:
            image: (1, C, H, W).
            prepare: a strip of the image to values in the engine's precision, channels_last.
            write: called with (1, C, rows, width) results from the top on and the number of their first row in the
                result of the whole image. Of some rows of an image, it gets the results that no other row decides.
            first: number of the first row in the whole image.
            end: whether the last row is that of the whole image.
        """
        self._sink.write = write
        try:
            self._push(image, prepare, first, end)
        finally:  # also for an image that failed: the next must not see its rows, nor its result stay alive
            self._sink.write = nowhere
            for stage in self._stages:
                stage.reset()

    def _push(self, image: Tensor, prepare: Callable[[Tensor], Tensor], row: int, end: bool) -> None:
        height, width = image.shape[2:]
        strip = max(16, self._bytes // (self.pixel_bytes * width))
        parts = image.split(strip_rows(strip), 2) if self._winograd else image.tensor_split(-(-height // strip), 2)
        for index, rows in enumerate(parts, 1):
            values = prepare(rows).contiguous(memory_format=torch.channels_last)
            for stage, port in self._source.consumers:
                stage.push(port, values, row, end and index == len(parts))
            row += rows.shape[2]
