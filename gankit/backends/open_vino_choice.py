"""Whether OpenVINO runs an image whole or in segments: measured once for a network, a machine and a size of images.

Nothing is measured before whole images have taken longer than a short job does, and the cache keeps what was found.
Importing this module imports no torch and no OpenVINO.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from gankit.backends.base import EngineSpec
from gankit.backends.choice.cache import recall, remember
from gankit.backends.choice.short_jobs import SHORT_JOB_SECONDS
from gankit.backends.open_vino_cuts import up
from gankit.backends.open_vino_segments import CutGraph, Cutting, SegmentedGraph
from gankit.backends.pixels import FULL_SCALE

LEAST_PIXELS = 1 << 17
"""Smaller images run whole: they are hardly larger than a tile."""
VALUES = (1 << 22, 1 << 21, 1 << 23, 1 << 20)
"""Sizes of tiles that are tried, as in :meth:`~gankit.backends.open_vino_cuts.Layers.cut`."""
MOVED, DEEPER = 150, 600
"""What copying a value costs, as in the same: as fast caches have it, and for deeper segments."""
_SEARCH_SECONDS = 3.0  # after which no further way of cutting is tried
_CROP_SECONDS = 0.75  # of the part of an image that runs whole and in segments
_LEAST_ROWS = 256
_MARGIN = 1.05  # how many times as fast segments must be
_LEAST_DB = {"fp32": 70.0, "bf16": 50.0}  # PSNR of segments against the whole image; bf16 may round otherwise

Run = Callable[[np.ndarray], np.ndarray]


@dataclass
class _Watch:
    """The whole images of one size class that have run.

    Attributes:
        images: their number.
        seconds: that they took.
        pixel: seconds for each pixel in the fastest run.
    """

    images: int = 0
    seconds: float = 0.0
    pixel: float = math.inf


class SegmentChoice:
    """Runs images whole or in segments.

    Args:
        spec: the spec of the engine.
        artefact: sha256 of its file.
        read: reads the graph.
        settings: of OpenVINO.
        whole: runs images (N, H, W, C) whole.
        release: releases the memory of whole images.
    """

    def __init__(
        self,
        spec: EngineSpec,
        artefact: str,
        read: Callable[[], Any],
        settings: dict[str, Any],
        whole: Run,
        release: Callable[[], None],
    ) -> None:
        self._spec, self._read, self._settings = spec, read, settings
        self._whole, self._release = whole, release
        self._key = ("segments", artefact, spec.precision, settings["INFERENCE_NUM_THREADS"])
        self._decided: dict[int, Cutting | None] = {}
        self._watched: dict[int, _Watch] = {}
        self._graph: CutGraph | None = None
        self._running: dict[np.dtype[Any], tuple[Cutting, SegmentedGraph]] = {}

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Run images (N, H, W, C) in the way that is chosen for their size."""
        count, height, width, _ = pixels.shape
        size = int(math.log2(height * width))
        if height * width < LEAST_PIXELS or height % self._spec.facts.multiple or width % self._spec.facts.multiple:
            return self._whole(pixels)
        if size not in self._decided and size not in self._watched:
            self._look_up(size)
        if (cutting := self._decided.get(size)) is not None:
            return self._segmented(cutting, pixels.dtype).run(pixels)
        began = time.perf_counter()
        result = self._whole(pixels)
        if size not in self._decided:
            watch, seconds = self._watched[size], time.perf_counter() - began
            watch.images, watch.seconds = watch.images + count, watch.seconds + seconds
            watch.pixel = min(watch.pixel, seconds / (count * height * width))
            if watch.images > count and watch.seconds >= SHORT_JOB_SECONDS:
                self.decide(pixels, watch.pixel)
        return result

    def decide(self, pixels: np.ndarray, pixel: float) -> None:
        """Choose for images of this size, and remember it.

        Args:
            pixels: such images (N, H, W, C).
            pixel: seconds for each pixel of whole images.
        """
        size = int(math.log2(pixels.shape[1] * pixels.shape[2]))
        cutting = self.fastest(pixels[:1], pixel * pixels[0, :, :, 0].size / _MARGIN)
        gain = 0.0 if cutting is None else self._gain(cutting, pixels, pixel)
        self._decided[size] = cutting if gain >= _MARGIN else None
        found = {} if cutting is None or gain < _MARGIN else asdict(cutting)
        remember((*self._key, size), {"segments": found, "gain": round(gain, 3)})
        if found:
            self._release()
            if self._spec.notify is not None:
                self._spec.notify(f"openvino runs images of this size in segments: {gain:.2f} times as fast as whole")
        else:
            self.close()

    def fastest(self, pixels: np.ndarray, limit: float) -> Cutting | None:
        """Estimate the ways of cutting in turn, and return the fastest; ``None`` if all take longer than a limit.

        Args:
            pixels: an image (1, H, W, C).
            limit: in seconds of this image.
        """
        if self._cut_graph() is None:
            return None
        began, best, fastest = time.perf_counter(), None, limit
        threads = self._settings["INFERENCE_NUM_THREADS"]
        tried: Cutting | None = None

        def attempt(cutting: Cutting) -> None:
            nonlocal best, fastest, tried
            if tried is not None and time.perf_counter() - began > _SEARCH_SECONDS:
                return
            tried = cutting
            segmented = self._made(cutting, pixels.dtype)
            seconds = segmented.seconds(pixels)
            segmented.close()
            if seconds < fastest:
                best, fastest = cutting, seconds

        for values in VALUES:
            attempt(Cutting(values, MOVED, threads))
        start: Cutting = best or Cutting(VALUES[0], MOVED, threads)
        attempt(replace(start, moved=DEEPER))
        if threads > 1:
            attempt(replace(best or start, streams=1))
        if best is not None:
            attempt(replace(best, static=True))
        return best

    def close(self) -> None:
        """Release everything."""
        for _, segmented in self._running.values():
            segmented.close()
        self._running.clear()

    def _look_up(self, size: int) -> None:
        """Take what an earlier run has chosen, or watch how long whole images take."""
        found = (recall((*self._key, size)) or {}).get("segments")
        if found == {}:
            self._decided[size] = None
        elif (cutting := _cutting(found)) is not None and self._cut_graph() is not None:
            self._decided[size] = cutting
        else:
            self._watched[size] = _Watch()

    def _gain(self, cutting: Cutting, pixels: np.ndarray, pixel: float) -> float:
        """Return how many times as fast segments are as whole images, on a part of the images; 0 if they differ."""
        count, height, width, _ = pixels.shape
        rows = int(_CROP_SECONDS / (pixel * count * width))
        rows = min(height, up(max(rows, _LEAST_ROWS), self._spec.facts.multiple))
        part, segmented = np.ascontiguousarray(pixels[:, :rows]), self._segmented(cutting, pixels.dtype)
        seconds = [math.inf, math.inf]
        for _ in range(2):
            for way, run in enumerate((self._whole, segmented.run)):
                began = time.perf_counter()
                result = run(part)
                seconds[way] = min(seconds[way], time.perf_counter() - began)
                if way == 0:
                    wanted = result
        return seconds[0] / seconds[1] if self._alike(wanted, result) else 0.0

    def _alike(self, wanted: np.ndarray, result: np.ndarray) -> bool:
        full = FULL_SCALE.get(result.dtype.name, 1.0)
        error = np.mean(np.square((result.astype(np.float32) - wanted) / full))
        return bool(error <= 10 ** (-_LEAST_DB[self._spec.precision] / 10))

    def _cut_graph(self) -> CutGraph | None:
        if self._graph is None:
            self._graph = CutGraph.of(self._read(), self._spec.facts, bf16=self._spec.precision == "bf16")
        return self._graph

    def _made(self, cutting: Cutting, dtype: np.dtype[Any]) -> SegmentedGraph:
        graph = self._cut_graph()
        assert graph is not None
        return SegmentedGraph(graph, cutting, self._settings, dtype)

    def _segmented(self, cutting: Cutting, dtype: np.dtype[Any]) -> SegmentedGraph:
        """Return the segments for a dtype of pixels; those of another way of cutting are released."""
        made = self._running.get(dtype)
        if made is not None and made[0] == cutting:
            return made[1]
        if made is not None:
            made[1].close()
        self._running[dtype] = cutting, self._made(cutting, dtype)
        return self._running[dtype][1]


def _cutting(found: Any) -> Cutting | None:
    """Return what the cache holds, or ``None`` if it is damaged."""
    names = [field.name for field in fields(Cutting)]
    if not isinstance(found, dict) or set(found) != set(names):
        return None
    return Cutting(**found) if all(isinstance(found[name], int) and found[name] >= 0 for name in names) else None
