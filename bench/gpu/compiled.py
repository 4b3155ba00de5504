"""Step 10: torch.compile beside eager: seconds to compile, and the network's time between two events.

``dynamic`` is what the backend ``compile`` does; ``static, graphs`` is one shape with ``mode="reduce-overhead"``. The
backend's engine for one fixed shape comes last, from uint8 on the host to uint8 on the host.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch

from bench.common import load_network
from bench.gpu.device import Device
from bench.gpu.generators import generator, image
from bench.gpu.report import Report

SHAPES = ((1, 160, 192), (8, 256, 256))
SMALL_SHAPES = ((1, 32, 64),)


def run(device: Device, report: Report) -> None:
    """Fill the report."""
    precision, dtype = ("fp32", torch.float32) if device.rehearsal else ("fp16", torch.float16)
    for name in ("srgan", "cyclegan"):
        module, facts = generator(name, small=device.rehearsal)
        for kernels in (True, False):
            network = load_network(module, facts, precision, device.name, kernels=kernels, compiled=True)
            for count, height, width in SMALL_SHAPES if device.rehearsal else SHAPES:
                case = f"{name} {count}×{height}×{width}"
                pixels = image(count, height, width).to(device.name)
                values = (pixels.to(dtype) / 255).contiguous(memory_format=torch.channels_last)
                ways = {
                    "eager": lambda network=network: network,
                    "dynamic": lambda network=network: torch.compile(network, dynamic=True, fullgraph=True),
                    "static, graphs": lambda network=network: torch.compile(
                        network, dynamic=False, fullgraph=True, mode="reduce-overhead"
                    ),
                }
                for way, make in ways.items():
                    variant = f"{way}, kernels {'on' if kernels else 'off'}"
                    torch._dynamo.reset()
                    with report.attempt(case, variant), torch.inference_mode():
                        began = time.perf_counter()
                        ready = make()
                        for _ in range(3):
                            ready(values)
                        device.synchronize()
                        report.add(case, variant, "first three calls, s", time.perf_counter() - began)
                        report.add(case, variant, "ms", device.event_ms(partial(ready, values)))
                if kernels:
                    with report.attempt(case, "engine of a fixed shape"):
                        _fixed(device, report, name, (count, height, width), precision)


def _fixed(device: Device, report: Report, name: str, size: tuple[int, int, int], precision: Any) -> None:
    """The engine of the backend ``compile`` for one shape. The rehearsal has the one for all shapes."""
    from gankit.backends import get
    from gankit.backends.base import EngineSpec, Shapes

    count, height, width = size
    module, facts = generator(name, small=device.rehearsal)
    torch._dynamo.reset()
    spec = EngineSpec(module, facts, precision, device.name, Shapes(count, (height, width)))
    began = time.perf_counter()
    with get("compile").load(spec) as engine:
        batch = image(count, height, width)
        for _ in range(4):
            engine.run(batch)
        case, variant = f"{name} {count}×{height}×{width}", "engine of a fixed shape"
        report.add(case, variant, "load and first calls, s", time.perf_counter() - began)
        report.add(case, variant, "wall, ms", device.wall_ms(partial(engine.run, batch)))
