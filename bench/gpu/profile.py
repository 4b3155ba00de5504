"""Step 15: which kernels the GPU's time goes to, per generator, and what other forms of a slow layer would cost."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from bench.common import load_network
from bench.gpu.device import Device
from bench.gpu.generators import generator, image
from bench.gpu.report import Report

MODELS = ("cyclegan", "srgan", "esrgan", "edsr", "pix2pix", "animegan", "srvgg")
MODEL_SECONDS, LAYER_SECONDS = 12, 4  # that one may take, with the compilation of kernels
# channels in, channels out, side of the kernel, part of 1080p: heads, tails, and tails with more channels
LAYERS = ((3, 64, 9, 1), (4, 64, 9, 1), (8, 64, 9, 1), (256, 12, 5, 2), (256, 16, 5, 2), (256, 32, 5, 2),
          (1024, 48, 3, 1), (1024, 64, 3, 1), (64, 48, 3, 1), (64, 64, 3, 1), (128, 128, 3, 1))  # fmt: skip


def run(device: Device, report: Report) -> None:
    """Fill the report."""
    precision, dtype = ("fp32", torch.float32) if device.rehearsal else ("fp16", torch.float16)
    count, height, width = (1, 32, 64) if device.rehearsal else (4, 256, 256)
    for name in MODELS:
        if not report.has_time(MODEL_SECONDS, name):
            continue
        with report.attempt(name, ""), torch.inference_mode():
            module, facts = generator(name, small=device.rehearsal)
            network = load_network(module, facts, precision, device.name)
            values = image(count, height, width).to(device.name).to(dtype).div_(255)
            values = values.contiguous(memory_format=torch.channels_last)
            for _ in range(3):
                network(values)
            device.synchronize()
            report.add(
                f"{name} {count}×{height}×{width}", "network", "ms", device.event_ms(partial(network, values), 5)
            )
            kinds = [torch.profiler.ProfilerActivity.CPU]
            kinds += [] if device.rehearsal else [torch.profiler.ProfilerActivity.CUDA]
            with torch.profiler.profile(activities=kinds) as profile:
                network(values)
                device.synchronize()
            _table(profile, report, name, count, device.rehearsal)
    for inside, outside, side, part in LAYERS:
        case = f"convolution {inside} to {outside}, {side}×{side}"
        if not report.has_time(LAYER_SECONDS, case):
            continue
        with report.attempt(case, ""), torch.inference_mode():
            height, width = (16, 32) if device.rehearsal else (270 * part, 480 * part)
            layer = nn.Conv2d(inside, outside, side, padding=side // 2).to(device.name, dtype)
            layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            values = torch.randn(4, inside, height, width, dtype=dtype, device=device.name)
            values = values.contiguous(memory_format=torch.channels_last)
            report.add(case, f"4×{height}×{width}", "ms", device.kernel_ms(partial(layer, values)))


def _table(profile: Any, report: Report, name: str, count: int, rehearsal: bool) -> None:
    key = "self_cpu_time_total" if rehearsal else "self_device_time_total"
    rows = sorted(profile.key_averages(), key=lambda row: getattr(row, key), reverse=True)
    for row in rows[:14]:
        if value := getattr(row, key):
            report.add(f"{name}, {count} images", row.key[:110], "µs", float(value), f"{row.count} calls")
