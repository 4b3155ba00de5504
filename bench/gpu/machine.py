"""Step 1: what the machine is, what gankit sees of it, and how fast it copies."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import torch

from bench.gpu.device import Device
from bench.gpu.report import Report

PACKAGES = (
    "torch", "triton", "numpy", "pillow", "imagecodecs", "isal", "platformdirs", "psutil", "safetensors", "click",
    "rich", "onnx", "onnxscript", "onnxruntime", "tensorrt", "pytest",
)  # fmt: skip
QUERY = "name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit,pstate,temperature.gpu"


def run(device: Device, report: Report) -> None:
    """Fill the report."""
    report.facts["python"] = sys.version
    report.facts["packages"] = {name: _version(name) for name in PACKAGES}
    report.facts["torch"] = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    report.facts["compilers"] = {name: shutil.which(name) for name in ("cc", "gcc", "g++", "nvcc")}
    commands = {
        "nvidia-smi": ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv"],
        "doctor": [sys.executable, "-m", "gankit", "doctor"],
    }
    for name, command in commands.items():
        if shutil.which(command[0]) is None:
            report.add(name, "", "exit status", None, "not installed")
            continue
        with report.attempt(name, ""):
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            report.facts[name] = done.stdout.splitlines() + done.stderr.splitlines()
            report.add(name, "", "exit status", float(done.returncode))
    _copies(device, report)
    _arithmetic(device, report)


def _copies(device: Device, report: Report) -> None:
    """GB/s of copies; one within the device reads and writes, so its bytes count twice."""
    size = 2**20 if device.rehearsal else 2**30
    source = torch.zeros(size, dtype=torch.uint8, device=device.name)
    target = torch.empty_like(source)
    with report.attempt("copy", "within the device"):
        milliseconds = device.event_ms(lambda: target.copy_(source))
        report.add("copy", "within the device", "GB/s", 2 * size / milliseconds / 1e6)
    part = size // 4
    pageable = torch.zeros(part, dtype=torch.uint8)
    for kind, host in (("pageable", pageable), ("pinned", device.pinned(pageable))):
        for name, one, other in (("to the device", host, target[:part]), ("to the host", source[:part], host)):
            with report.attempt("copy", f"{name}, {kind}"):
                milliseconds = device.wall_ms(partial(other.copy_, one, non_blocking=True))
                report.add("copy", f"{name}, {kind}", "GB/s", part / milliseconds / 1e6)


def _arithmetic(device: Device, report: Report) -> None:
    """TFLOP/s of a large matrix product, and of the convolutions that generators are made of."""
    dtype = torch.float32 if device.rehearsal else torch.float16
    side = 256 if device.rehearsal else 8192
    with report.attempt("matrix product", str(side)):
        one, other = (torch.randn(side, side, dtype=dtype, device=device.name) for _ in range(2))
        milliseconds = device.event_ms(lambda: one @ other)
        report.add("matrix product", f"{side}³", "TFLOP/s", 2 * side**3 / milliseconds / 1e9)
    height, width = (32, 64) if device.rehearsal else (1080, 1920)
    for inside, outside, kernel in ((64, 64, 3), (64, 256, 3), (256, 256, 3), (3, 64, 9), (64, 3, 9)):
        case = f"convolution {inside} to {outside}, {kernel}×{kernel}, {height}×{width}"
        divisor = 4 if inside == 256 else 1
        for tuned in (False, True):
            with report.attempt(case, f"cudnn.benchmark {'on' if tuned else 'off'}"), torch.inference_mode():
                torch.backends.cudnn.benchmark = tuned
                layer = torch.nn.Conv2d(inside, outside, kernel, padding=kernel // 2).to(device.name, dtype)
                layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
                values = torch.randn(1, inside, height // divisor, width // divisor, dtype=dtype, device=device.name)
                values = values.contiguous(memory_format=torch.channels_last)
                for _ in range(3):
                    layer(values)
                milliseconds = device.event_ms(lambda layer=layer, values=values: layer(values))
                work = 2 * inside * outside * kernel**2 * values.shape[2] * values.shape[3]
                name = f"cudnn.benchmark {'on' if tuned else 'off'}"
                report.add(case, name, "TFLOP/s", work / milliseconds / 1e9)
    torch.backends.cudnn.benchmark = False


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
