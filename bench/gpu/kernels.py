"""Step 5: gankit's kernels beside torch's operations and a copy of as many bytes, with cold caches."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product

import torch
from gankit_kernels import epilogue

from bench.gpu.device import Device, Run
from bench.gpu.report import Report
from bench.kernels import ONE, SEVERAL, Shape, providers


def shapes(small: bool) -> Iterator[Shape]:
    """The cases: norms that fit into a multiprocessor and that do not, SRGAN's epilogues and a large shuffle."""
    part = 8 if small else 1
    for layout in ("planes", "channels_last"):
        for samples, channels, side in ((8, 256, 64), (1, 64, 256), (8, 64, 256)):
            for operation in ("norm+relu", "norm+relu+residual", "norm+relu+border"):
                yield Shape(operation, layout, samples, channels // part, side // part, side // part, "CycleGAN")
        if layout == "channels_last":  # where gankit measures which of the two is faster
            for operation, way in product(("norm+relu", "norm+relu+residual", "norm+relu+border"), (ONE, SEVERAL)):
                yield Shape(f"{operation}{way}", layout, 8, 256 // part, 64 // part, 64 // part, "CycleGAN")
        for operation in ("epilogue bias+prelu", "epilogue bias+residual"):
            for samples, height, width in ((8, 256, 256), (1, 1080, 1920)):
                yield Shape(operation, layout, samples, 64 // part, height // part, width // part, "SRGAN body")
        for operation in ("shuffle ×2+bias+prelu", "shuffle ×2+bias+prelu, dcr"):
            yield Shape(operation, layout, 1, 256 // part, 512 // part, 512 // part, "SRGAN ×4")


def in_place(shape: Shape, device: str) -> Run | None:
    """The epilogue as an engine runs it, over its own source; ``None`` for other operations."""
    if not shape.operation.startswith("epilogue"):
        return None
    layout = torch.channels_last if shape.layout == "channels_last" else torch.contiguous_format
    size = (shape.samples, shape.channels, shape.height, shape.width)
    x = torch.randn(size, device=device, dtype=torch.float16).contiguous(memory_format=layout)
    bias, slopes = torch.zeros(2, shape.channels, device=device, dtype=torch.float16)
    if "residual" in shape.operation:
        return partial(epilogue, x, bias, residual=torch.zeros_like(x), in_place=True)
    return partial(epilogue, x, bias, prelu=slopes, in_place=True)


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
            over = in_place(shape, device.name)
            if over is not None:
                times["gankit in place"] = device.kernel_ms(over)
            for variant, milliseconds in times.items():
                report.add(case, variant, "µs", milliseconds * 1e3)
                report.add(case, variant, "GB/s", shape.bytes / milliseconds / 1e6)
            for variant in ("gankit", "gankit in place"):
                if variant in times:
                    report.add(case, variant, "% of copy", 100 * times["copy"] / times[variant])
