"""Run one image through the engine: colour, gray, transparency, 16 bit, and running out of memory.

A network treats the three channels alike only nearly. An image whose channels are equal everywhere, in a gray or in a
colour file, would therefore come out tinted, and its result is made gray again. Importing this module imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from gankit.backends.base import Engine, EngineMemoryError
from gankit.backends.memory import empty_cache, is_out_of_memory
from gankit.errors import UsageError
from gankit.images import DecodedImage, bleed
from gankit.memory import FreedMemory, available_memory, require
from gankit.models.facts import Facts
from gankit.pipeline.flat import flat_around
from gankit.pipeline.gray import equal_channels, equalise
from gankit.pipeline.tiles import auto_tile, run_tiled, submit_whole
from gankit.pipeline.workspace import LEAST_PIXELS, Workspace

ProgressCallback = Callable[[float], None]

LARGEST_BATCH = 16
_FLAT_WINDOW = 5


@dataclass
class Processor:
    """Runs images through an engine, in tiles and batches that fit into memory.

    Attributes:
        engine: the engine.
        facts: facts of its generator.
        halo: halo of its generator in input pixels.
        tile: side of a tile in input pixels. ``"auto"`` uses the whole image or the least wasteful tile that
            ``max_pixels`` allows.
        batch: tiles per call. ``"auto"`` uses as many as ``max_pixels`` allows.
        max_pixels: input pixels per call. It is halved each time memory runs out, and stays so if the image then fits.
        max_memory: bytes that the process may use in all; ``None`` sets no limit besides those of the system.
    """

    engine: Engine
    facts: Facts
    halo: int
    tile: int | Literal["auto"] = "auto"
    batch: int | Literal["auto"] = "auto"
    max_pixels: int = 0
    max_memory: int | None = None

    def __post_init__(self) -> None:
        self._freed = FreedMemory(self.max_memory)
        self.workspace = Workspace(self.engine, self.facts, self.halo, self.max_memory)
        self.max_pixels = self.max_pixels or self.workspace.max_pixels()
        if not self.facts.tileable and self.tile != "auto":
            raise UsageError(f"'{self.facts.name}' needs the whole image and cannot be tiled; omit --tile")

    def image(self, image: DecodedImage, progress: ProgressCallback | None = None) -> DecodedImage:
        """Upscale an image with its transparency. Metadata are kept.

        Args:
            image: any image that ``gankit.images`` decodes.
            progress: called with the fraction that is done, up to 1.

        Raises:
            NoMemoryError: If the result, its file and the engine need more than the available memory. This is checked
                first, because an operating system that overcommits would kill the whole run.
            EngineMemoryError: See :meth:`batched`.
        """
        self.require(image, _peak_bytes(image, self.facts.scale))
        alpha = image.alpha
        busy = alpha is not None and bool((alpha != alpha.flat[0]).any())
        colours = image.pixels if alpha is None else bleed(image.pixels, alpha)
        share = 0.5 if busy else 1.0
        pixels = self.colours(colours, image.gray, progress and (lambda part: progress(part * share)))
        grown = None
        if alpha is not None:
            grown = np.full(pixels.shape[:2], alpha.flat[0], dtype=alpha.dtype)
            if busy:
                grown = self.alpha(alpha, progress and (lambda part: progress(0.5 + part / 2)))
        return replace(image, pixels=pixels, alpha=grown)

    def images(self, images: Sequence[DecodedImage]) -> list[DecodedImage]:
        """Process images of equal size and depth in one call, as :meth:`shared_call` allows. Metadata are kept."""
        return self._unstacked(images, self.batched(self._stacked(images)))

    def submit(self, images: Sequence[DecodedImage]) -> Callable[[], list[DecodedImage]] | None:
        """Start what :meth:`images` does; return a function that waits for its result.

        Returns:
            The function, or ``None`` if the engine gains nothing from it, or if the images do not fit into one call.
        """
        if self.engine.depth == 1 or not self._in_one_call(images[0], len(images)):
            return None
        batch = self._stacked(images)
        count, _, height, width = batch.shape
        most = self.max_pixels
        if self._tile(height, width, most) != (height, width) or count > self._batch_in_call(height * width, most):
            return None
        facts = self.facts
        try:
            finish = submit_whole(
                self.engine,
                batch,
                scale=facts.scale,
                multiple=facts.multiple,
                out_channels=facts.out_channels,
                minimum=facts.minimum,
            )
        except (RuntimeError, EngineMemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None  # batched() tries smaller tiles
        return lambda: self._unstacked(images, self._with_equal_channels(batch, finish()))

    def _stacked(self, images: Sequence[DecodedImage]) -> np.ndarray:
        """Return the pixels of several images as one batch for the engine."""
        return stacked([nchw(image.pixels) for image in images])

    def _unstacked(self, images: Sequence[DecodedImage], results: np.ndarray) -> list[DecodedImage]:
        """Return the images with the pixels of a batch that the engine made."""
        return [
            replace(image, pixels=hwc(result))
            for image, result in zip(images, np.split(results, len(images)), strict=True)
        ]

    def shared_call(self, image: DecodedImage) -> int:
        """Return how many images like this one :meth:`images` may process; 1 if only its colours would fit."""
        count = self.batch_of(image)
        return count if self._in_one_call(image, max(1, count)) else 1

    def _in_one_call(self, image: DecodedImage, count: int) -> bool:
        """Whether so many images like this one need one call of the engine only, and their results fit into memory."""
        plain = image.alpha is None and not image.gray and self.facts.channels == 3
        needed = _peak_bytes(image, self.facts.scale) * count + self._engine_bytes(image)
        return plain and needed <= available_memory(self.max_memory)

    def batch_of(self, image: DecodedImage) -> int:
        """Return how many whole images of this size go into one call of the engine.

        This is the batch that the user set. Otherwise it is as many as the engine runs at once on a CPU, such as one on
        each core, and as many as ``max_pixels`` allows on a GPU.
        """
        if self.batch != "auto":
            return min(self.batch, self.engine.at_once) if self.engine.wants == "images" else self.batch
        if self.engine.device == "cpu":
            return self.engine.at_once
        height, width = image.pixels.shape[:2]
        result: int = max(1, min(LARGEST_BATCH, self.max_pixels // (height * width)))
        return result

    def require(self, image: DecodedImage, result_bytes: int) -> None:
        """Check that there is memory for a result and for the smallest tile of it in the engine.

        Args:
            image: the image.
            result_bytes: memory of its result at the peak.

        Raises:
            NoMemoryError: If there is not. The message gives the numbers and what to do.
        """
        height, width = image.pixels.shape[:2]
        advice = ["free some memory", "process parts of the image"]
        if self.max_memory is not None:
            advice[0] = "use a larger --max-memory"
        if self.tile != "auto" and self.engine.wants == "tiles":
            advice[1] = "use a smaller --tile"
        elif self.facts.tileable and self.engine.wants == "tiles" and self.engine.device == "cpu":
            advice[1] = "use --backend eager, which needs the least memory"
        needed = result_bytes + self._engine_bytes(image)
        require(needed, f"an image of {width}×{height} pixels", " or ".join(advice), self.max_memory)

    def _engine_bytes(self, image: DecodedImage) -> int:
        """Estimate the least memory in which the engine can run an image."""
        height, width = image.pixels.shape[:2]
        batch = 1 if self.batch == "auto" else self.batch
        return self.workspace.least_bytes(height, width, self.tile, batch)

    def batched(
        self, batch: np.ndarray, progress: ProgressCallback | None = None, equal: bool | None = None
    ) -> np.ndarray:
        """Run a batch in tiles, with smaller tiles each time memory runs out.

        Args:
            batch: (N, C, H, W) uint8, uint16 or float32.
            progress: called with the fraction that is done, up to 1.
            equal: whether the channels of the source are equal everywhere; ``None`` finds out from ``batch``.

        Returns:
            (N, C', scale·H, scale·W) in the dtype of ``batch``. An upscaled image has equal channels if its source has.

        Raises:
            BackendError: If the engine returns another shape than it must.
            EngineMemoryError: If memory runs out even for the smallest tile, a fixed tile, or an uncut image.
        """
        tiled = self._tiled(batch, progress)
        result = tiled if equal is False else self._with_equal_channels(batch, tiled)
        self._freed.after(batch.shape)
        return result

    def _with_equal_channels(self, batch: np.ndarray, result: np.ndarray) -> np.ndarray:
        """Make the channels of an upscaled image equal if those of its source are."""
        if self.facts.task == "upscale" and batch.shape[1] == result.shape[1] > 1:
            for source, made in zip(batch, result, strict=True):
                if equal_channels(source.transpose(1, 2, 0)):
                    equalise(made.transpose(1, 2, 0))
        return result

    def _tiled(self, batch: np.ndarray, progress: ProgressCallback | None) -> np.ndarray:
        before = self.max_pixels
        while True:
            count, _, height, width = batch.shape
            canvas = batch.itemsize * count * (self.facts.out_channels or batch.shape[1])
            most = self.workspace.now(self.max_pixels, canvas * height * width * self.facts.scale**2)
            tile = self._tile(height, width, most)
            size = math.prod(tile)
            in_call = self._batch_in_call(size, most)
            try:
                return run_tiled(
                    self.engine,
                    batch,
                    scale=self.facts.scale,
                    halo=self.halo,
                    tile=tile if self.facts.tileable else None,
                    multiple=self.facts.multiple,
                    batch=min(in_call, max(1, count * math.ceil(height * width / size) * 4)),
                    progress=progress,
                    out_channels=self.facts.out_channels,
                    minimum=self.facts.minimum,
                )
            except (RuntimeError, EngineMemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            empty_cache(
                self.engine.device
            )  # outside of the handler, because the error keeps the engine's tensors alive
            fixed = self.tile != "auto" and (self.batch != "auto" or in_call == 1)
            whole = self.engine.wants == "images" or (not self.facts.tileable and min(count, in_call) == 1)
            if fixed or whole or min(most, size) <= LEAST_PIXELS:
                self.max_pixels = before
                place = "" if whole else f" with tile {tile[1]}×{tile[0]}"
                hint = "use a smaller --tile" if fixed else "free some memory or use another --device"
                raise EngineMemoryError(f"out of memory on {self.engine.device}{place}; {hint}")
            self.max_pixels = max(LEAST_PIXELS, min(most, size * in_call) // 2)

    def _batch_in_call(self, size: int, max_pixels: int) -> int:
        """Return how many tiles of ``size`` pixels go into one call of the engine, or how many whole images."""
        if self.engine.wants == "images":
            return self.engine.at_once
        return self.batch if self.batch != "auto" else max(1, min(64, max_pixels // size))

    def _tile(self, height: int, width: int, max_pixels: int) -> tuple[int, int]:
        if not self.facts.tileable:
            return height, width
        if self.tile != "auto":
            return self.tile, self.tile
        return auto_tile(height, width, self.halo, max_pixels, self.facts.multiple)

    def colours(
        self, pixels: np.ndarray, gray: bool, progress: ProgressCallback | None = None, equal: bool | None = None
    ) -> np.ndarray:
        """Upscale (H, W, 3) to (scale·H, scale·W, 3). A gray image stays exactly gray; ``equal`` as in `batched`."""
        if self.facts.channels == 3:
            return hwc(self.batched(nchw(pixels), progress, equal))
        if gray or equal_channels(pixels):
            return _same_channels(self._plane(pixels[..., 0], progress))
        return np.ascontiguousarray(self._planes(pixels.transpose(2, 0, 1), progress).transpose(1, 2, 0))

    def _plane(self, plane: np.ndarray, progress: ProgressCallback | None) -> np.ndarray:
        """Upscale (H, W) to (scale·H, scale·W). A colour model gets three equal channels."""
        if self.facts.channels == 3:
            return np.ascontiguousarray(hwc(self.batched(nchw(_same_channels(plane)), progress))[..., 0])
        return np.ascontiguousarray(self._planes(plane[None], progress)[0])

    def _planes(self, planes: np.ndarray, progress: ProgressCallback | None) -> np.ndarray:
        """Upscale (N, H, W) to (N, scale·H, scale·W) with a gray model, each plane by itself."""
        if self.facts.channels != 1:
            raise UsageError(
                f"'{self.facts.name}' takes {self.facts.channels} channels, but images have 1 or 3; use another model"
            )
        return self.batched(np.array(planes[:, None], order="C"), progress)[:, 0]

    def alpha(self, alpha: np.ndarray, progress: ProgressCallback | None = None) -> np.ndarray:
        """Upscale transparency as a gray image, which makes its edges as sharp as those of the colours.

        Flat areas keep their value, because a generator would turn 255 into 253.
        """
        scale, grown = self.facts.scale, self._plane(alpha, progress)
        flat = flat_around(alpha, _FLAT_WINDOW)
        for row in range(len(alpha)):
            target = grown[row * scale : (row + 1) * scale]
            np.copyto(target, alpha[row].repeat(scale), where=flat[row].repeat(scale))
        return grown


def _peak_bytes(image: DecodedImage, scale: int) -> int:
    """Return the largest memory of the result and its file, if the file is as large as the result.

    A transparent result is copied to join its channels.
    """
    alpha = 0 if image.alpha is None else image.alpha.nbytes
    own = image.pixels.nbytes + alpha
    return (3 if alpha else 2) * own * scale**2


def nchw(pixels: np.ndarray) -> np.ndarray:
    """Return (H, W, C) as a view (1, C, H, W) whose channels come last in memory."""
    if not pixels.flags.writeable:  # engines may take its memory as their own
        pixels = pixels.copy()
    return np.ascontiguousarray(pixels).transpose(2, 0, 1)[None]


def stacked(batches: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate several (1, C, H, W) to one (N, C, H, W) whose channels come last in memory."""
    return np.concatenate([batch.transpose(0, 2, 3, 1) for batch in batches]).transpose(0, 3, 1, 2)


def hwc(batch: np.ndarray) -> np.ndarray:
    """Return (1, C, H, W) as a contiguous (H, W, C) array, without a copy if the channels come last in memory."""
    return np.ascontiguousarray(batch[0].transpose(1, 2, 0))


def _same_channels(plane: np.ndarray) -> np.ndarray:
    """Repeat (H, W) to (H, W, 3)."""
    return np.repeat(plane[..., None], 3, axis=2)
