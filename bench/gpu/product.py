"""Step 6: the commands, as a user runs them, on folders of JPEG and PNG images: seconds, and the images themselves.

Every result on the GPU is compared with the same command's on the CPU in fp32, by the PSNR of one image.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.common import psnr, read
from bench.gpu.device import Device
from bench.gpu.generators import image
from bench.gpu.report import Report

COUNT, SIZE = 64, (512, 768)
SMALL_COUNT, SMALL_SIZE = 2, (48, 64)


def run(device: Device, report: Report) -> None:
    """Fill the report."""
    count, (height, width) = (SMALL_COUNT, SMALL_SIZE) if device.rehearsal else (COUNT, SIZE)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        batch = image(4, height, width).permute(0, 2, 3, 1).numpy()
        for name in ("jpg", "png", "one"):
            (work / name).mkdir()
        for number in range(count):
            pixels = np.roll(batch[number % 4], number * 7, axis=1)
            Image.fromarray(pixels).save(work / "jpg" / f"{number:03d}.jpg", quality=92)
            Image.fromarray(pixels).save(work / "png" / f"{number:03d}.png", compress_level=1)
        Image.fromarray(batch[0]).save(work / "one" / "000.png")
        jobs = (
            partial(_images, device, report, work, "upscale", "srgan", []),
            partial(_images, device, report, work, "translate", "nuclei-stain", ["--direction", "AtoB"]),
            partial(_samples, device, report, work),
        )
        if device.rehearsal:
            for job in jobs:
                job()
            return
        with ThreadPoolExecutor(len(jobs)) as pool:  # most of a command's time is its start
            for done in [pool.submit(job) for job in jobs]:
                done.result()


def _images(device: Device, report: Report, work: Path, task: str, model: str, more: list[str]) -> None:
    """A command on the folders, with the eager backend and with the one that gankit chooses."""
    precision = "fp32" if device.rehearsal else "fp16"
    case, truth = f"{task} {model}", work / f"truth_{task}"
    with report.attempt(case, "eager fp32 on the CPU"):
        options = ["--backend", "eager", "--precision", "fp32", "--device", "cpu", *more]
        _command(work, [task, "one", "-m", model, "-o", str(truth), *options], report, f"{case} truth")
    eager = ["--backend", "eager", "--precision", precision]
    for source, variant, options in (("png", "eager", eager), ("jpg", "eager", eager), ("jpg", "auto", [])):
        with report.attempt(case, f"{source}, {variant}"):
            output = work / f"{task}_{source}_{variant}"
            arguments = [task, source, "-m", model, "-o", str(output), "--device", device.name, *options, *more]
            _timed(work, arguments, report, case, f"{source}, {variant}")
            if source == "png":
                made = read(next(output.glob("000*.png")))
                report.add(case, variant, "PSNR dB", psnr(made, read(next(truth.glob("000*.png")))))


def _samples(device: Device, report: Report, work: Path) -> None:
    """``generate``, on the device and on the CPU."""
    for model in ("cgan", "dcgan"):
        with report.attempt(f"generate {model}", ""):
            made = [work / f"{model}_{where}" for where in ("device", "cpu")]
            for where, output in zip((device.name, "cpu"), made, strict=True):
                command = ["generate", "-m", model, "-n", "64", "-o", str(output), "--device", where]
                _timed(work, command, report, f"generate {model}", where)
            value = psnr(*(np.asarray(Image.open(output / "000000.png").convert("L")) for output in made))
            report.add(f"generate {model}", device.name, "PSNR dB", value)


def _timed(work: Path, arguments: list[str], report: Report, case: str, variant: str) -> None:
    began = time.perf_counter()
    found = _command(work, arguments, report, f"{case} {variant}")
    report.add(case, variant, "whole command, s", time.perf_counter() - began)
    for name, value in sorted(_numbers(found)):
        if name.startswith("engine.") or (name.startswith("totals.") and name.endswith(("second", "seconds"))):
            report.add(case, variant, name, value)


def _numbers(content: Any, path: str = "") -> list[tuple[str, float]]:
    """All numbers of the head of a command's report, by their path; not those of single files."""
    if isinstance(content, dict):
        inner = [(f"{path}.{name}".strip("."), value) for name, value in content.items()]
        return [found for name, value in inner if not isinstance(value, list) for found in _numbers(value, name)]
    return [(path, float(content))] if isinstance(content, int | float) and not isinstance(content, bool) else []


def _command(work: Path, arguments: list[str], report: Report, name: str) -> Any:
    written = work / f"report_{name.replace(' ', '_')}.json"
    written.unlink(missing_ok=True)
    more = [] if arguments[0] == "generate" else ["--report", str(written)]
    command = [sys.executable, "-m", "gankit", *arguments, *more]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=120, check=False)
    report.facts[name] = (done.stdout.splitlines() + done.stderr.splitlines())[-12:]
    if done.returncode:
        raise RuntimeError(f"exit status {done.returncode}: {' '.join(report.facts[name][-2:])}")
    return json.loads(written.read_text(encoding="utf-8")) if written.exists() else {}
