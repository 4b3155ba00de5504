"""What gankit is compared with: what a careful person writes with each library in ten lines.

Each takes (N, 3, H, W) uint8 in plain NCHW memory and returns uint8; the generator gets values in the range
of its facts. Nothing is done to slow them down; OpenVINO and ONNX Runtime get a static shape, compiled before the
clock starts, and no setting is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gankit_export.openvino_core import openvino_core
from PIL import Image
from torch import Tensor, nn

from bench.common import EAGER, ONNXRUNTIME, OPENVINO
from gankit.models.facts import Facts

Run = Callable[[Tensor], Tensor]


def values_of(batch: Tensor, facts: Facts) -> Tensor:
    """uint8 -> float32 in the generator's range."""
    low, high = facts.value_range
    return batch.float() * ((high - low) / 255) + low


def bytes_of(values: Tensor, facts: Facts) -> Tensor:
    """The generator's range -> uint8."""
    low, high = facts.value_range
    return ((values.clamp(low, high) - low) * (255 / (high - low))).round().to(torch.uint8)


def eager(generator: nn.Module, facts: Facts) -> Run:
    """The module as it is, in fp32."""

    def run(batch: Tensor) -> Tensor:
        with torch.inference_mode():
            return bytes_of(generator(values_of(batch, facts)), facts)

    return run


def openvino(generator: nn.Module, facts: Facts) -> Run:
    """OpenVINO's own converter and its default settings; on a CPU with bf16 it takes bf16 by itself."""
    import openvino as ov

    core = openvino_core()  # two of them crash at the next signal; nothing is set on it
    compiled: dict[tuple[int, ...], Any] = {}

    def run(batch: Tensor) -> Tensor:
        values = values_of(batch, facts)
        shape = tuple(values.shape)
        if shape not in compiled:
            sample = values[..., :32, :32]  # traced several times, which takes minutes on a whole image
            model = ov.convert_model(generator, example_input=sample, input=[list(shape)])
            compiled[shape] = core.compile_model(model, "CPU")
        result = compiled[shape](values.numpy())[0]
        return bytes_of(torch.from_numpy(result), facts)

    return run


def onnxruntime(generator: nn.Module, facts: Facts) -> Run:
    """The exporter of torch and ONNX Runtime's default session, fp32."""
    import onnxruntime as ort

    sessions: dict[tuple[int, ...], ort.InferenceSession] = {}

    def run(batch: Tensor) -> Tensor:
        values = values_of(batch, facts)
        shape = tuple(values.shape)
        if shape not in sessions:
            program = torch.onnx.export(generator, (values,), dynamo=True, verbose=False)
            assert program is not None
            data = program.model_proto.SerializeToString()
            sessions[shape] = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
        session = sessions[shape]
        result = session.run(None, {session.get_inputs()[0].name: values.numpy()})[0]
        return bytes_of(torch.from_numpy(result), facts)

    return run


BASELINES: dict[str, Callable[[nn.Module, Facts], Run]] = {EAGER: eager, ONNXRUNTIME: onnxruntime, OPENVINO: openvino}


def folder(run: Run, sources: list[Path], output: Path) -> None:
    """The plain loop: Pillow reads, the network runs, Pillow saves a PNG with its default settings."""
    for source in sources:
        pixels = np.array(Image.open(source).convert("RGB"))
        batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()
        result = run(batch)[0].permute(1, 2, 0).numpy()
        Image.fromarray(result).save(output / f"{source.stem}.png")
