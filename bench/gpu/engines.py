"""Step 4: an engine's time on the host's clock against the network's on the GPU's, and what closes the gap.

Of every model and size, with ``cudnn.benchmark`` off and on:

* the engine as it is, from pageable uint8 to pageable uint8;
* the network alone, and with the pixels' way in and out, between two events;
* the same with pinned memory and copies that do not block;
* the same recorded as a CUDA graph.

Calls are queued without waiting, so where the processor launches more slowly than the GPU computes, the time between
two events is the processor's; that of the graph is then the GPU's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from bench.common import load_engine, load_network
from bench.gpu.device import Device
from bench.gpu.generators import generator, image
from bench.gpu.report import Report

MODELS = ("srgan", "cyclegan")
SIZES = ((1, 160, 192), (16, 256, 256), (1, 1080, 1920))
SMALL_SIZES = ((2, 32, 64),)


def run(device: Device, report: Report) -> None:
    """Fill the report."""
    before = torch.backends.cudnn.benchmark
    for size in SMALL_SIZES if device.rehearsal else SIZES:
        for name in MODELS:
            for tuned in (False, True):
                case = f"{name} {size[0]}×{size[1]}×{size[2]}"
                variant = f"cudnn.benchmark {'on' if tuned else 'off'}"
                torch.backends.cudnn.benchmark = tuned
                with report.attempt(case, variant), torch.inference_mode():
                    _measure(device, report, name, size, case, variant)
    torch.backends.cudnn.benchmark = before


def _measure(device: Device, report: Report, name: str, size: tuple[int, int, int], case: str, variant: str) -> None:
    from gankit_kernels import from_uint8, to_uint8

    precision, dtype = ("fp32", torch.float32) if device.rehearsal else ("fp16", torch.float16)
    module, facts = generator(name, small=device.rehearsal)
    batch, (low, high) = image(*size), facts.value_range
    megapixels = size[0] * size[1] * size[2] / 1e6

    def add(metric: str, milliseconds: float) -> None:
        report.add(case, variant, f"{metric}, ms", milliseconds)
        report.add(case, variant, f"{metric}, MP/s", megapixels / milliseconds * 1e3)

    device.reset_peak()
    with load_engine(module, facts, "eager", precision, device.name) as engine:
        for _ in range(3):
            engine.run(batch)
        add("engine, wall", device.wall_ms(lambda: engine.run(batch)))
    report.add(case, variant, "engine, peak MiB of the GPU", device.peak_mib())

    network = load_network(module, facts, precision, device.name)
    pixels = batch.permute(0, 2, 3, 1).to(device.name)  # (N, H, W, C), as the kernels take them
    kept: list[torch.Tensor] = []

    def enter() -> torch.Tensor:
        return from_uint8(pixels, low=low, high=high, dtype=dtype, memory_format=torch.channels_last)

    def whole() -> None:
        kept[:] = [to_uint8(network(enter()), low=low, high=high, dtype=torch.uint8)]

    values = enter()
    for _ in range(3):
        network(values)
        whole()
    add("network, events", device.event_ms(lambda: network(values)))
    add("network with pixels in and out, events", device.event_ms(whole))

    host_in, host_out = device.pinned(batch.permute(0, 2, 3, 1)), device.pinned(kept[0].cpu())

    def pinned(inner: Callable[[], object]) -> None:
        pixels.copy_(host_in, non_blocking=True)
        inner()
        host_out.copy_(kept[0], non_blocking=True)

    add("pinned, wall", device.wall_ms(lambda: pinned(whole)))
    replay = device.graph(whole)
    add("graph, events", device.event_ms(replay))
    add("graph and pinned, wall", device.wall_ms(lambda: pinned(replay)))
