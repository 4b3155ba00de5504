"""Dense blocks with and without their concatenations: the whole of ESRGAN, and one pass of the kernel beside a copy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch

from bench.common import load_network
from bench.gpu.device import Device
from bench.gpu.generators import generator, image
from bench.gpu.report import Report

SIZES = ((1, 160, 192), (4, 256, 256))
SMALL_SIZES = ((1, 32, 64),)
SECONDS = (20, 25)  # that a size may take, with the compilation of kernels
REPEATS = 8
WIDTHS = (96, 128, 160, 192)


def run(device: Device, report: Report) -> None:
    """Fill the report: the kernel, then the network from the shortest case to the longest."""
    precision, dtype = ("fp32", torch.float32) if device.rehearsal else ("fp16", torch.float16)
    with report.attempt("spread", ""), torch.inference_mode():
        _kernel(device, report, dtype)
    networks = {}
    for word, variant in (("on", "written in place"), ("off", "concatenated")):
        with report.attempt("esrgan", variant), switched(word):
            module, facts = generator("esrgan", small=device.rehearsal)
            networks[variant] = load_network(module, facts, precision, device.name)
    for size, seconds in zip(SMALL_SIZES if device.rehearsal else SIZES, SECONDS, strict=False):
        count, height, width = size
        case = f"esrgan {count}×{height}×{width}"
        if not report.has_time(seconds, case):
            continue
        values = image(count, height, width).to(device.name).to(dtype).div_(255)
        values = values.contiguous(memory_format=torch.channels_last)
        results = {}
        for variant, network in networks.items():
            with report.attempt(case, variant), torch.inference_mode():
                device.reset_peak()
                results[variant] = network(values)
                report.add(case, variant, "peak MiB of the GPU", device.peak_mib())
                graph = device.graph(partial(network, values))
                report.add(case, variant, "network, graph, ms", device.event_ms(graph, REPEATS))
        if len(results) > 1:
            one, other = (result.float() for result in results.values())
            report.add(case, "written in place", "largest difference", float((one - other).abs().max()))


@contextmanager
def switched(word: str) -> Iterator[None]:
    """Turn the removal of concatenations on or off."""
    from gankit.backends.cuda.kernels import DENSE

    before = os.environ.get(DENSE)
    os.environ[DENSE] = word
    try:
        yield
    finally:
        os.environ.pop(DENSE)
        if before is not None:
            os.environ[DENSE] = before


def _kernel(device: Device, report: Report, dtype: torch.dtype) -> None:
    from gankit_kernels import spread

    count, side = (1, 32) if device.rehearsal else (4, 256)

    def tensor(channels: int) -> torch.Tensor:
        made = torch.randn(count, channels, side, side, device=device.name, dtype=dtype)
        return made.contiguous(memory_format=torch.channels_last)

    bias = torch.randn(32, device=device.name, dtype=dtype)
    targets = [tensor(width) for width in WIDTHS]
    for number in (4, 1):
        part, written, case = tensor(32), targets[-number:], f"{count}×32×{side}×{side} to {number}"
        pass_ = partial(spread, part, written, 64, bias, activation="leaky_relu", slope=0.2)
        moved = part.nbytes * (1 + number)
        source = torch.empty(moved // 2, dtype=torch.uint8, device=device.name)
        target = torch.empty_like(source)
        report.add(f"spread, {case}", "gankit", "µs", device.kernel_ms(pass_) * 1e3)
        report.add(f"spread, {case}", "copy", "µs", device.kernel_ms(partial(target.copy_, source)) * 1e3)
