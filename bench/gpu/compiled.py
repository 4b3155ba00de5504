"""Step 13: torch.compile beside eager: seconds to compile, and the network's time between two events.

``static, graphs`` is one shape with ``mode="reduce-overhead"``, ``dynamic`` is what the backend ``compile`` does for
images of all sizes, and ``engine of a fixed shape`` is that backend for one shape, from uint8 on the host to uint8 on
the host. A compilation takes up to half a minute, so the cases are in the order of what is most worth knowing, and
those for which no time is left are named.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from bench.common import load_network
from bench.gpu.device import Device
from bench.gpu.generators import generator, image
from bench.gpu.report import Report

MODELS = ("cyclegan", "srgan")
SIZE, SMALL_SIZE = (8, 256, 256), (1, 32, 64)
EAGER, STATIC, DYNAMIC, FIXED = "eager", "static, graphs", "dynamic", "engine of a fixed shape"
FIRST_SECONDS = 30.0  # that the first compilation may take; of a later one, what the slowest took


def cases() -> Iterator[tuple[str, str, bool]]:
    """Model, way, and whether gankit's kernels take part."""
    for way, kernels in ((EAGER, True), (STATIC, False), (STATIC, True), (FIXED, True), (DYNAMIC, True)):
        for name in MODELS:
            yield name, way, kernels


def run(device: Device, report: Report) -> None:
    """Fill the report."""
    precision, dtype = ("fp32", torch.float32) if device.rehearsal else ("fp16", torch.float16)
    size = SMALL_SIZE if device.rehearsal else SIZE
    batch = image(*size)
    values = (batch.to(device.name).to(dtype) / 255).contiguous(memory_format=torch.channels_last)
    slowest = 0.0
    for name, way, kernels in cases():
        case = f"{name} {size[0]}×{size[1]}×{size[2]}"
        variant = way if way == FIXED else f"{way}, kernels {'on' if kernels else 'off'}"
        if way != EAGER and not report.has_time(1.2 * slowest or FIRST_SECONDS, case, variant):
            continue
        torch._dynamo.reset()
        began = time.monotonic()
        with report.attempt(case, variant), torch.inference_mode():
            module, facts = generator(name, small=device.rehearsal)
            if way == FIXED:
                _fixed(device, report, case, module, facts, precision, batch)
            else:
                network = load_network(module, facts, precision, device.name, kernels=kernels, compiled=True)
                ready = made(network, way, graphs=not device.rehearsal)
                first = time.perf_counter()
                for _ in range(3):
                    ready(values)
                device.synchronize()
                report.add(case, variant, "first three calls, s", time.perf_counter() - first)
                report.add(case, variant, "ms", device.event_ms(partial(ready, values), 10))
        if way != EAGER:
            slowest = max(slowest, time.monotonic() - began)


def made(network: nn.Module, way: str, *, graphs: bool) -> Any:
    """The network itself, or compiled in one of the ways."""
    if way == EAGER:
        return network
    if way == DYNAMIC:
        return torch.compile(network, dynamic=True, fullgraph=True)
    return torch.compile(network, dynamic=False, fullgraph=True, mode="reduce-overhead" if graphs else None)


def _fixed(
    device: Device, report: Report, case: str, module: nn.Module, facts: Any, precision: Any, batch: torch.Tensor
) -> None:
    """The engine of the backend ``compile`` for one shape. The rehearsal has the one for all shapes."""
    from gankit.backends import get
    from gankit.backends.base import EngineSpec, Shapes

    count, _, height, width = batch.shape
    spec = EngineSpec(module, facts, precision, device.name, Shapes(count, (height, width)))
    began = time.perf_counter()
    with get("compile").load(spec) as engine:
        for _ in range(4):
            engine.run(batch)
        report.add(case, FIXED, "load and first calls, s", time.perf_counter() - began)
        report.add(case, FIXED, "wall, ms", device.wall_ms(partial(engine.run, batch), 10))
