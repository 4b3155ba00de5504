"""Step 3: how far the GPU's engines are from fp32 on the CPU, with gankit's kernels and without."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bench.common import load_engine
from bench.gpu.device import Device
from bench.gpu.generators import generator, image
from bench.gpu.report import Report
from gankit.errors import BackendError

MODELS = ("srgan", "edsr", "esrgan", "cyclegan", "pix2pix", "animegan")
PRECISIONS = ("fp32", "bf16", "fp16")


def run(device: Device, report: Report) -> None:
    """Fill the report.

    Fresh weights make images of little contrast, so beside the PSNR of full scale there is the error as a share of the
    true image's standard deviation.
    """
    for name in MODELS:
        with report.attempt(name, ""):
            module, facts = generator(name, small=device.rehearsal)
            step = facts.multiple
            height, width = (32, 64) if device.rehearsal else (96, 128)
            pixels = image(1, -(-height // step) * step, -(-width // step) * step)
            low, high = facts.value_range
            with torch.inference_mode():
                truth = (module(pixels.float() * ((high - low) / 255) + low) - low) / (high - low)
            for precision in PRECISIONS:
                for kernels in (True, False):
                    variant = f"{precision}, kernels {'on' if kernels else 'off'}"
                    with report.attempt(name, variant):
                        try:
                            engine = load_engine(module, facts, "eager", precision, device.name, kernels=kernels)
                        except BackendError as refusal:  # such as fp16 on a CPU, in a rehearsal
                            report.add(name, variant, "refused", None, str(refusal))
                            continue
                        with engine:
                            _compare(report, name, variant, engine.run(pixels.float() / 255), truth)
                            levels = engine.run(pixels).int() - (truth * 255).clamp(0, 255).round().int()
                        report.add(name, variant, "largest difference of uint8 levels", float(levels.abs().max()))


def _compare(report: Report, case: str, variant: str, result: Tensor, truth: Tensor) -> None:
    error = float((result.double() - truth.double()).square().mean().sqrt())
    report.add(case, variant, "PSNR dB", math.inf if error == 0 else -20 * math.log10(error))
    report.add(case, variant, "RMSE / standard deviation", error / float(truth.double().std()))
