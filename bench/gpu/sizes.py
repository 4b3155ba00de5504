"""Step 7: ten image sizes, each for the first and for the second time: what a new size costs."""

from __future__ import annotations

import time

import torch

from bench.common import load_engine
from bench.gpu.device import Device
from bench.gpu.generators import generator, image
from bench.gpu.report import Report

SIZES = ((160, 192), (168, 200), (177, 211), (192, 192), (200, 256), (256, 256), (260, 300), (320, 240), (333, 334),
         (400, 304))  # fmt: skip


def run(device: Device, report: Report) -> None:
    """Fill the report."""
    for name in ("srgan", "cyclegan"):
        module, facts = generator(name, small=device.rehearsal)
        step = facts.multiple
        with report.attempt(name, ""), torch.inference_mode():
            precision = "fp32" if device.rehearsal else "fp16"
            with load_engine(module, facts, "eager", precision, device.name) as engine:
                for height, width in SIZES[:2] if device.rehearsal else SIZES:
                    pixels = image(1, -(-height // step) * step, -(-width // step) * step)
                    for turn in ("first", "second"):
                        began = time.perf_counter()
                        engine.run(pixels)
                        report.add(f"{name} {height}×{width}", turn, "ms", (time.perf_counter() - began) * 1e3)
