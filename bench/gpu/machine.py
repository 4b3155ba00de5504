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


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
