"""Step 5: gankit's kernels beside torch's operations and a copy of as many bytes, with cold caches."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from bench.gpu.device import Device
from bench.gpu.report import Report
from bench.kernels import Shape, providers


def shapes(small: bool) -> Iterator[Shape]:
    """The cases: norms that fit into a multiprocessor and that do not, and SRGAN's shuffle of a large image."""
    part = 8 if small else 1
    for layout in ("planes", "channels_last"):
        for samples, channels, side in ((8, 256, 64), (1, 64, 256), (8, 64, 256)):
            for operation in ("norm+relu", "norm+relu+residual", "norm+relu+border"):
                yield Shape(operation, layout, samples, channels // part, side // part, side // part, "CycleGAN")
        for operation in ("shuffle ×2+bias+prelu", "shuffle ×2+bias+prelu, dcr"):
            yield Shape(operation, layout, 1, 256 // part, 512 // part, 512 // part, "SRGAN ×4")


def run(device: Device, report: Report) -> None:
    """Fill the report."""
    for shape in shapes(device.rehearsal):
        case = str(shape)
        with report.attempt(case, ""), torch.inference_mode():
            plain, ours = providers(shape, device.name)
            torch.testing.assert_close(ours().float(), plain().float(), rtol=2e-2, atol=2e-2)
            source = torch.empty(shape.bytes // 2, dtype=torch.uint8, device=device.name)
            target = torch.empty_like(source)
            times = {
                "torch": device.kernel_ms(plain),
                "gankit": device.kernel_ms(ours),
                "copy": device.kernel_ms(partial(target.copy_, source)),
            }
            for variant, milliseconds in times.items():
                report.add(case, variant, "µs", milliseconds * 1e3)
                report.add(case, variant, "GB/s", shape.bytes / milliseconds / 1e6)
            report.add(case, "gankit", "% of copy", 100 * times["copy"] / times["gankit"])
