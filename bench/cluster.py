"""Images per second of each worker of a local Ray, beside those of the plain run: ``python -m bench.cluster``.

Both run the same images with the same engine and as many threads for each engine. Half of the plain run comes before
the one on Ray and half after it, because a shared machine changes its pace. Each rate is that from the first quarter of
the images to the last one, so that the start of Ray and of the engines is left out. Take enough images: workers report
up to 64 at a time.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import logging
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import gankit
from gankit.cluster import run_on_cluster
from gankit.pipeline.items import Progress


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--side", type=int, default=48, help="side of the images in pixels")
    parser.add_argument("--model", default="edsr-photo")
    parser.add_argument("--backend", default="eager")
    parser.add_argument("--threads", type=int, default=1, help="cores of each worker, and of the plain run")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    import ray

    make = functools.partial(
        gankit.Upscaler, given.model, backend=given.backend, precision="fp32", threads=given.threads
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        images(root / "in", given.images, given.side)
        halves = [f"{root}/in/{part}/*.png" for part in "01"]
        plain: list[list[Progress]] = [[], []]
        spread: list[Progress] = []
        with make() as upscaler:
            upscaler.run(halves[0], root / "plain", progress=plain[0].append)
        ray.init(
            "local",
            num_cpus=given.workers * given.threads,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        with make() as upscaler:
            places = ([root / "in"], root / "cluster")
            run_on_cluster(upscaler, *places, address="local", worker=make, progress=spread.append)
        ray.shutdown()
        with make() as upscaler:
            upscaler.run(halves[1], root / "plain", progress=plain[1].append)
    rates = [rate(half) for half in plain]
    each, worker = 2 / sum(1 / one for one in rates), rate(spread) / given.workers
    print(f"plain run: {each:.2f} images/s with {given.threads} threads ({rates[0]:.2f} before, {rates[1]:.2f} after)")
    print(f"cluster: {worker:.2f} images/s for each of {given.workers} workers")
    print(f"ratio: {worker / each:.2f}")


def rate(states: list[Progress]) -> float:
    """Images per second after the first quarter.

    Images that are reported together were made before that, so the time begins where a pause follows.
    """
    last = states[-1]
    pause = last.seconds / last.done / 2
    pairs = itertools.pairwise(states)
    first = next(one for one, then in pairs if one.done >= last.done / 4 and then.seconds - one.seconds > pause)
    return (last.done - first.done) / (last.seconds - first.seconds)


def images(folder: Path, count: int, side: int) -> None:
    for half in "01":
        (folder / half).mkdir(parents=True)
    for seed in range(count):
        pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "01"[seed >= count // 2] / f"{seed}.png")


if __name__ == "__main__":
    main()
