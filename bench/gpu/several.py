"""Several engines behind one queue: every GPU of the machine, and two engines on the first one.

The second shows on any machine that threads, streams and graphs of two engines do not disturb each other: the pixels
must be those of one engine. ``--device all`` follows where there are several GPUs.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench.common import load_engine
from bench.gpu.device import Device
from bench.gpu.generators import generator, image
from bench.gpu.report import Report


def run(device: Device, report: Report) -> None:
    """Fill the report."""
    with report.attempt("two engines on one GPU", ""):
        _two(device, report)
    count = 1 if device.rehearsal else torch.cuda.device_count()
    report.add("GPUs", "", "count", float(count))
    if count > 1:
        with report.attempt("upscale srgan, --device all", ""):
            _all(report, count)


def _two(device: Device, report: Report) -> None:
    from gankit.backends.several import SeveralEngines

    precision = "fp32" if device.rehearsal else "fp16"
    calls, size = (3, (1, 16, 32)) if device.rehearsal else (24, (4, 256, 256))
    module, facts = generator("srgan", small=device.rehearsal)
    batches = [image(*size).roll(7 * index, 3) for index in range(calls)]

    def pass_through(engine: object) -> list[torch.Tensor]:
        pending = [engine.submit(batch) for batch in batches]  # type: ignore[attr-defined]
        return [one.result() for one in pending]

    with load_engine(module, facts, "eager", precision, device.name) as one:
        for _ in range(2):
            wanted = pass_through(one)
        report.add("24 calls", "one engine", "wall, ms", device.wall_ms(partial(pass_through, one), 5))
    engines = [load_engine(module, facts, "eager", precision, device.name) for _ in range(2)]
    lines: list[str] = []
    with SeveralEngines(engines, lines.append) as both:
        for _ in range(2):
            made = pass_through(both)
        report.add("24 calls", "two engines on one GPU", "wall, ms", device.wall_ms(partial(pass_through, both), 5))
    worst = max(int((a.short() - b.short()).abs().max()) for a, b in zip(made, wanted, strict=True))
    report.add(
        "24 calls", "two engines on one GPU", "largest difference of uint8 levels", float(worst), "; ".join(lines)
    )


def _all(report: Report, count: int) -> None:
    import gankit

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        source.mkdir()
        batch = image(4, 512, 768).permute(0, 2, 3, 1).numpy()
        for number in range(32 * count):
            pixels = np.roll(batch[number % 4], number * 7, axis=1)
            Image.fromarray(pixels).save(source / f"{number:03d}.png", compress_level=1)
        made = {}
        for device in ("cuda:0", "all"):
            lines: list[str] = []
            options = {"backend": "eager", "precision": "fp16", "device": device}
            with gankit.Upscaler("srgan", notify=lines.append, **options) as upscaler:  # type: ignore[arg-type]
                upscaler(batch)  # engines start, and kernels compile
                found = upscaler.run(source, Path(folder) / device.replace(":", "_"))
            case = f"upscale srgan, {32 * count} PNG of 768×512"
            report.add(case, device, "wall, s", found.seconds, "; ".join(lines))
            engine = sum(one.engine_seconds or 0.0 for one in found.images)
            report.add(case, device, "engine, s", engine)
            made[device] = [np.asarray(Image.open(one.target)) for one in found.images]
        worst = max(
            int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in zip(made["cuda:0"], made["all"], strict=True)
        )
        report.add(case, "all", "largest difference of uint8 levels", float(worst))
