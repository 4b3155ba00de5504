"""OpenVINO in segments against the whole image: ``python -m bench.segments --model edsr --size 768x512``.

Every way of cutting the network is estimated from the first tiles of its segments, as the engine does it. Then the best
ones run the whole image, in turns with the engine as it runs whole images. Ratios are times as fast as that.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from bench.common import spread
from gankit.backends import get
from gankit.backends.base import EngineSpec
from gankit.backends.cpu.threads import default_threads
from gankit.backends.open_vino import OpenVinoEngine
from gankit.backends.open_vino_choice import DEEPER, MOVED, VALUES
from gankit.backends.open_vino_segments import CutGraph, Cutting, SegmentedGraph
from gankit.checkpoints import open_model


def timed(run: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray) -> tuple[float, np.ndarray]:
    """Run once; return the seconds and the result."""
    began = time.perf_counter()
    result = run(pixels)
    return time.perf_counter() - began, result


def title(cutting: Cutting, segmented: SegmentedGraph) -> str:
    """Describe a way of cutting."""
    inner = segmented.segments[len(segmented.segments) // 2]
    many = f"{cutting.streams} tiles at once" if cutting.streams > 1 else "one tile at a time"
    shapes = "static" if cutting.static else "dynamic"
    return f"{len(segmented.segments)} segments, halo {inner.halo}, tiles up to {inner.side}, {many}, {shapes}"


def main() -> None:
    """Parse the command line, measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="edsr", help="a model, or a file of weights")
    parser.add_argument("--size", default="768x512", help="width x height of the input")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--bf16-maps", action="store_true", help="keep feature maps in bf16 also in fp32")
    parser.add_argument("--best", type=int, default=2, help="ways of cutting that run the whole image")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    loaded, threads = open_model(given.model), given.threads or default_threads()
    spec = EngineSpec(loaded.module, loaded.facts, given.precision, threads=threads)
    engine: Any = get("openvino").load(spec)
    assert isinstance(engine, OpenVinoEngine)
    graph = CutGraph.of(engine.read(), loaded.facts, bf16=given.bf16_maps or given.precision == "bf16")
    if graph is None:
        raise SystemExit(f"{given.model}: this network sees the whole image, and stays whole")
    width, height = map(int, given.size.split("x"))
    shape = (1, height, width, loaded.facts.channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    timed(engine.whole, pixels)
    whole = min(timed(engine.whole, pixels)[0] for _ in range(2))
    print(f"{given.model} {given.size} {given.precision}, {threads} threads, whole image: {whole:.2f} s")
    print("estimated from the first tiles:")
    found: list[tuple[float, Cutting]] = []
    for values, moved, streams, static in product(sorted(VALUES), (MOVED, DEEPER), sorted({1, threads}), (False, True)):
        cutting = Cutting(values, moved, streams, static)
        segmented = SegmentedGraph(graph, cutting, engine.settings, pixels.dtype)
        found.append((segmented.seconds(pixels), cutting))
        print(f"  {whole / found[-1][0]:.2f}x  {title(cutting, segmented)}", flush=True)
        segmented.close()
    best = [cutting for _, cutting in sorted(found, key=lambda item: item[0])[: given.best]]
    ways = [SegmentedGraph(graph, cutting, engine.settings, pixels.dtype) for cutting in best]
    runs = [engine.whole, *(way.run for way in ways)]
    seconds: list[list[float]] = [[] for _ in runs]
    for number in range(given.rounds + 1):
        for run, times in zip(runs, seconds, strict=True):
            times.append(timed(run, pixels)[0])
        if number == 0:  # compiles
            wanted = engine.whole(pixels).astype(np.int32)
            apart = [int(np.abs(way.run(pixels).astype(np.int32) - wanted).max()) for way in ways]
            for times in seconds:
                times.clear()
    print(f"the whole image in turns, medians of {given.rounds}:")
    print(f"  1.00x  {np.median(seconds[0]):.2f} s (spread {spread(seconds[0]) or 0:.0%})  whole")
    for cutting, way, times, levels in zip(best, ways, seconds[1:], apart, strict=True):
        fast = np.median(seconds[0]) / np.median(times)
        took = f"{np.median(times):.2f} s (spread {spread(times) or 0:.0%})"
        print(f"  {fast:.2f}x  {took}  {title(cutting, way)}; largest difference {levels} levels")


if __name__ == "__main__":
    main()
