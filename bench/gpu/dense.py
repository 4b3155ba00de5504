"""Dense blocks with and without their concatenations: the whole of ESRGAN, and one pass of the kernel beside a copy."""

from __future__ import annotations

import os
from functools import partial

import torch

from bench.common import load_network
from bench.gpu.device import Device
from bench.gpu.generators import generator, image
from bench.gpu.report import Report

SIZES = ((1, 160, 192), (4, 256, 256))
SMALL_SIZES = ((1, 32, 64),)
WIDTHS = (96, 128, 160, 192)


def run(device: Device, report: Report) -> None:
    """Fill the report."""
    from gankit.backends.cuda.kernels import DENSE

    precision, dtype = ("fp32", torch.float32) if device.rehearsal else ("fp16", torch.float16)
    before = os.environ.get(DENSE)
    for count, height, width in SMALL_SIZES if device.rehearsal else SIZES:
        case = f"esrgan {count}×{height}×{width}"
        values = image(count, height, width).to(device.name).to(dtype).div_(255)
        values = values.contiguous(memory_format=torch.channels_last)
        results = {}
        for word, variant in (("off", "concatenated"), ("on", "written in place")):
            os.environ[DENSE] = word
            with report.attempt(case, variant), torch.inference_mode():
                module, facts = generator("esrgan", small=device.rehearsal)
                network = load_network(module, facts, precision, device.name)
                device.reset_peak()
                for _ in range(3):
                    results[word] = network(values)
                report.add(case, variant, "network, events, ms", device.event_ms(partial(network, values)))
                graph = device.graph(partial(network, values))
                report.add(case, variant, "network, graph, ms", device.event_ms(graph))
                report.add(case, variant, "peak MiB of the GPU", device.peak_mib())
        if len(results) > 1:
            off = (results["on"].float() - results["off"].float()).abs().max()
            report.add(case, "written in place", "largest difference", float(off))
    os.environ.pop(DENSE)
    if before is not None:
        os.environ[DENSE] = before
    with report.attempt("spread", ""), torch.inference_mode():
        _kernel(device, report, dtype)


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
