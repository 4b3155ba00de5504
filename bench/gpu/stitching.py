"""A large image in tiles: stitched on the GPU and on the host, and the pixels of both."""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.common import load_engine
from bench.gpu.device import Device
from bench.gpu.generators import generator, image
from bench.gpu.report import Report

TILES = (256, 512)
SMALL_TILES = (64,)


def run(device: Device, report: Report) -> None:
    """Fill the report."""
    from gankit_export.receptive_field import halo

    from gankit.pipeline.tiles import run_tiled

    precision = "fp32" if device.rehearsal else "fp16"
    height, width = (96, 128) if device.rehearsal else (1080, 1920)
    module, facts = generator("srgan", small=device.rehearsal)
    pixels = image(1, height, width).numpy()
    context = min(halo(module), 20 if device.rehearsal else 1000)
    with load_engine(module, facts, "eager", precision, device.name) as engine:
        on_device = engine.stitch
        for tile in SMALL_TILES if device.rehearsal else TILES:
            case = f"srgan 1×{height}×{width}, tile {tile}"
            made = {}
            ways = {"stitched on the GPU": on_device, "stitched on the host": lambda image, cut: None}
            for variant, stitch in ways.items():
                with report.attempt(case, variant):
                    engine.stitch = stitch  # type: ignore[method-assign, assignment]
                    call = partial(run_tiled, engine, pixels, scale=facts.scale, halo=context, tile=tile, batch=4)
                    for _ in range(4):  # kernels compile, and graphs are recorded
                        made[variant] = call()
                    report.add(case, variant, "wall, ms", device.wall_ms(call))
            if len(made) > 1:
                one, other = (item.astype(np.int16) for item in made.values())
                worst = float(np.abs(one - other).max())
                report.add(case, "stitched on the GPU", "largest difference of uint8 levels", worst)
