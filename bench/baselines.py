"""What gankit is compared with: what a careful person writes with each library in ten lines.

Each takes (N, 3, H, W) uint8 in plain NCHW memory and returns uint8. Nothing is done to slow them down; OpenVINO and
ONNX Runtime get a static shape, compiled before the clock starts, and no setting is changed.
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

Run = Callable[[Tensor], Tensor]


def eager(generator: nn.Module) -> Run:
    """The module as it is, in fp32."""

    def run(batch: Tensor) -> Tensor:
        with torch.inference_mode():
            return (generator(batch.float() / 255).clamp(0, 1) * 255).round().to(torch.uint8)

    return run


def openvino(generator: nn.Module) -> Run:
    """OpenVINO's own converter and its default settings; on a CPU with bf16 it takes bf16 by itself."""
    import openvino as ov

    core = openvino_core()  # two of them crash at the next signal; nothing is set on it
    compiled: dict[tuple[int, ...], Any] = {}

    def run(batch: Tensor) -> Tensor:
        values = batch.float() / 255
        shape = tuple(values.shape)
        if shape not in compiled:
            sample = values[..., :32, :32]  # traced several times, which takes minutes on a whole picture
            model = ov.convert_model(generator, example_input=sample, input=[list(shape)])
            compiled[shape] = core.compile_model(model, "CPU")
        result = compiled[shape](values.numpy())[0]
        return (torch.from_numpy(result).clamp(0, 1) * 255).round().to(torch.uint8)

    return run


def onnxruntime(generator: nn.Module) -> Run:
    """The exporter of torch and ONNX Runtime's default session, fp32."""
    import onnxruntime as ort

    sessions: dict[tuple[int, ...], ort.InferenceSession] = {}

    def run(batch: Tensor) -> Tensor:
        values = batch.float() / 255
        shape = tuple(values.shape)
        if shape not in sessions:
            program = torch.onnx.export(generator, (values,), dynamo=True, verbose=False)
            assert program is not None
            data = program.model_proto.SerializeToString()
            sessions[shape] = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
        session = sessions[shape]
        result = session.run(None, {session.get_inputs()[0].name: values.numpy()})[0]
        return (torch.from_numpy(result).clamp(0, 1) * 255).round().to(torch.uint8)

    return run


BASELINES: dict[str, Callable[[nn.Module], Run]] = {EAGER: eager, ONNXRUNTIME: onnxruntime, OPENVINO: openvino}


def folder(run: Run, sources: list[Path], output: Path) -> None:
    """The plain loop: Pillow reads, the network runs, Pillow saves a PNG with its default settings."""
    for source in sources:
        pixels = np.array(Image.open(source).convert("RGB"))
        batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()
        result = run(batch)[0].permute(1, 2, 0).numpy()
        Image.fromarray(result).save(output / f"{source.stem}.png")
