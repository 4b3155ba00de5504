"""Step 10: torch.compile beside eager: seconds to compile, and the network's time between two events.

``dynamic`` is what the backend ``compile`` does; ``static, graphs`` is one shape with ``mode="reduce-overhead"``.
"""

from __future__ import annotations

import time
from functools import partial

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
