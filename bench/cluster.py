"""Images per second of each worker of a local Ray, beside those of the plain run: ``python -m bench.cluster``.

Both run the same images with the same engine and as many threads for each engine. The plain run has as many threads as
one worker. The times are those of the reports, without the start of Ray, and each run makes its engine warm first on
other images, because a worker's engine starts within its run.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import gankit
from gankit.cluster import run_on_cluster


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--side", type=int, default=96, help="side of the images in pixels")
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
        images(root / "warm", 4 * given.workers, given.side)
        images(root / "in", given.images, given.side)
        with make() as upscaler:
            upscaler.run(root / "warm", root / "warm-plain")
            plain = upscaler.run(root / "in", root / "plain").totals
        ray.init("local", num_cpus=given.workers * given.threads, include_dashboard=False, log_to_driver=False)
        with make() as upscaler:
            run = functools.partial(run_on_cluster, upscaler, address="local", worker=make)
            # The workers of a run end with it. Two lengths of run take their start out of the difference.
            short = run([root / "warm"], root / "warm-cluster").totals
            long = run([root / "in"], root / "cluster").totals
        ray.shutdown()
    each = plain.done / plain.seconds
    worker = (long.done - short.done) / (long.seconds - short.seconds) / given.workers
    print(f"plain run: {each:.2f} images/s with {given.threads} threads")
    print(f"cluster: {worker:.2f} images/s for each of {given.workers} workers, the start of Ray's workers left out")
    print(f"ratio: {worker / each:.2f}")


def images(folder: Path, count: int, side: int) -> None:
    folder.mkdir()
    for seed in range(count):
        pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")


if __name__ == "__main__":
    main()
