"""Step 9: 200 steps of ``gankit train dcgan`` and of ``srresnet``, as a user runs them: steps per second."""

from __future__ import annotations

import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from bench.gpu.device import Device
from bench.gpu.generators import image
from bench.gpu.report import Report


def run(device: Device, report: Report) -> None:
    """Fill the report."""
    steps = 2 if device.rehearsal else 200
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        digits = np.random.default_rng(0).integers(0, 256, (512, 28, 28), np.uint8)
        (work / "digits-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, *digits.shape) + digits.tobytes())
        for kind, count in (("photos", 8), ("held", 2)):
            (work / kind).mkdir()
            for number, pixels in enumerate(image(count, 256, 384).permute(0, 2, 3, 1).numpy()):
                Image.fromarray(pixels).save(work / kind / f"{number}.png")
        batch = "4" if device.rehearsal else "64"
        small = ["--patch", "24", "--batch", "2"] if device.rehearsal else ["--workers", "8"]
        jobs = {
            "dcgan": ["--data", str(work / "digits-idx3-ubyte"), "--batch", batch],
            "srresnet": ["--data", str(work / "photos"), "--validation", str(work / "held"), *small],
        }
        for recipe, options in jobs.items():
            with report.attempt(recipe, ""):
                command = [sys.executable, "-m", "gankit", "train", recipe, "--output", str(work / recipe)]
                command += ["--steps", str(steps), "--device", device.name, *options]
                began = time.perf_counter()
                done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
                report.facts[recipe] = (done.stdout.splitlines() + done.stderr.splitlines())[-20:]
                if done.returncode:
                    raise RuntimeError(f"exit status {done.returncode}: {' '.join(report.facts[recipe][-2:])}")
                report.add(recipe, f"{steps} steps", "whole command, s", time.perf_counter() - began)
