"""Step 8: little memory, settings of the host program, and torch's own tools over one call of every kernel."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import torch

from bench.gpu.device import Device
from bench.gpu.generators import image
from bench.gpu.report import Report

KERNELS = """
import torch
from gankit_kernels import blend_tiles, epilogue, from_uint8, group_norm, instance_norm, pixel_shuffle, spread, to_uint8
for layout in (torch.contiguous_format, torch.channels_last):
    for shape in ((2, 5, 31, 37), (1, 64, 64, 64), (2, 32, 128, 128)):
        x = torch.randn(shape, device="cuda", dtype=torch.float16).contiguous(memory_format=layout)
        for norm in (instance_norm, group_norm):
            norm(x, activation="relu", pad=1, residual=x)
    x = torch.randn(1, 64, 30, 44, device="cuda", dtype=torch.float16).contiguous(memory_format=layout)
    for order in ("crd", "dcr"):
        pixel_shuffle(x, 2, activation="leaky_relu", slope=0.2, order=order)
    bias = torch.randn(64, device="cuda", dtype=torch.float16)
    epilogue(x, bias, residual=x, activation="leaky_relu", pads=(1, 0, 2, 1))
    epilogue(x.clone(memory_format=torch.preserve_format), bias, prelu=bias, in_place=True)
    targets = [torch.empty(1, wide, 30, 44, device="cuda", dtype=torch.float16) for wide in (96, 128, 160, 192, 224)]
    targets = [target.contiguous(memory_format=layout) for target in targets]
    spread(x, targets, 32, bias, residual=x, result=x, activation="leaky_relu", slope=0.2)
    pixels = torch.randint(0, 256, (2, 40, 52, 3), dtype=torch.uint8, device="cuda")
    to_uint8(from_uint8(pixels, low=-1.0, dtype=torch.float16, memory_format=layout), low=-1.0)
blend_tiles(torch.rand(6, 3, 64, 80, device="cuda"), (0, 40), (0, 70, 100), (104, 180), 16)
torch.cuda.synchronize()
print("done")
"""


def run(device: Device, report: Report) -> None:
    """Fill the report."""
    with report.attempt("Sampler after allow_tf32", ""):
        _host_settings(device, report)
    with report.attempt("1080p in 3 % of the memory", ""):
        _little_memory(device, report)
    with report.attempt("compute-sanitizer", ""):
        _sanitizer(device, report)


def _host_settings(device: Device, report: Report) -> None:
    import gankit

    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        with gankit.Sampler("gan", device=device.name) as sampler:
            report.add("Sampler after allow_tf32", "", "samples", float(len(sampler.sample(4))))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


def _little_memory(device: Device, report: Report) -> None:
    import gankit

    height, width = (64, 96) if device.rehearsal else (1080, 1920)
    pixels = image(1, height, width)[0].permute(1, 2, 0).numpy()
    options = {"device": device.name, "backend": "eager", "precision": "fp32" if device.rehearsal else "fp16"}
    with gankit.Upscaler("srgan", **options) as upscaler:  # type: ignore[arg-type]
        free = upscaler(pixels)
    if not device.rehearsal:
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(0.03)
    device.reset_peak()
    with gankit.Upscaler("srgan", **options) as upscaler:  # type: ignore[arg-type]
        little = upscaler(pixels)
    report.add("1080p in 3 % of the memory", "", "peak MiB", device.peak_mib())
    levels = np.abs(np.asarray(free, np.int16) - np.asarray(little, np.int16)).max()
    report.add("1080p in 3 % of the memory", "", "largest difference of uint8 levels", float(levels))


def _sanitizer(device: Device, report: Report) -> None:
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if device.rehearsal or shutil.which(tool) is None:
        report.add("compute-sanitizer", "", "exit status", None, "not installed, or a rehearsal")
        return
    command = [tool, "--error-exitcode", "9", sys.executable, "-c", KERNELS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    report.facts["compute-sanitizer"] = (done.stdout.splitlines() + done.stderr.splitlines())[-40:]
    report.add("compute-sanitizer", "memcheck", "exit status", float(done.returncode))
