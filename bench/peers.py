"""What gankit's engines are compared with on one batch, as :mod:`bench.engine_worker` runs it.

Each is the strongest plain way with its library: the exported ONNX file with static shapes, or a compiled module with
frozen weights. Pixels go in and come out as for gankit's engines.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.baselines import onnxruntime, openvino, pixels_of, values_of
from bench.common import ONNXRUNTIME, OPENVINO
from bench.engine_worker import Run, facts_of, generator_of, inputs_of

COMPILE = "torch.compile, frozen"


def exported(work: dict[str, Any]) -> str:
    """Export the plain generator to a temporary file."""
    facts, generator = facts_of(work), generator_of(work)
    path = Path(tempfile.mkdtemp(prefix="gankit-bench-")) / "plain.onnx"
    if facts.task == "generate":
        from gankit_export.latent import export_latent_onnx

        export_latent_onnx(generator, path, latent=facts.latent, classes=facts.classes)
    else:
        from gankit_export.onnx import export_onnx

        export_onnx(generator, path, channels=facts.channels, multiple=facts.multiple)
    return str(path)


def plain_openvino(work: dict[str, Any]) -> Run:
    """OpenVINO with its default settings."""
    facts, inputs = facts_of(work), [item.numpy() for item in inputs_of(work)]
    if facts.task != "generate":
        return _on_pixels(openvino(work["model"], exported(work), facts.value_range, inputs[0].shape).run, inputs[0])
    import openvino as ov

    core = ov.Core()
    compiled = core.compile_model(core.read_model(exported(work)), "CPU")
    return lambda: compiled(inputs)[0]


def plain_onnxruntime(work: dict[str, Any]) -> Run:
    """ONNX Runtime's default session."""
    facts, inputs = facts_of(work), [item.numpy() for item in inputs_of(work)]
    if facts.task != "generate":
        return _on_pixels(onnxruntime(work["model"], exported(work), facts.value_range, inputs[0].shape).run, inputs[0])
    import onnxruntime as ort

    session = ort.InferenceSession(exported(work), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]
    return lambda: session.run(None, dict(zip(names, inputs, strict=True)))[0]


def compiled(work: dict[str, Any]) -> Run:
    """A module that torch compiles with frozen weights, in channels_last and fp32."""
    os.environ["TORCHINDUCTOR_FREEZING"] = "1"  # read when torch is imported; the option of torch.compile has no effect
    import torch

    facts, inputs = facts_of(work), inputs_of(work)
    module = torch.compile(generator_of(work).to(memory_format=torch.channels_last))

    def run() -> Any:
        with torch.inference_mode():
            if facts.task == "generate":
                return module(*inputs)
            values = torch.from_numpy(values_of(inputs[0].numpy(), facts.value_range))
            result = module(values.contiguous(memory_format=torch.channels_last))
            return torch.from_numpy(pixels_of(result.numpy(), facts.value_range))

    return run


def _on_pixels(run: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray) -> Run:
    batch = np.ascontiguousarray(pixels)
    return lambda: run(batch)


PEERS: dict[str, Callable[[dict[str, Any]], Run]] = {
    OPENVINO: plain_openvino,
    ONNXRUNTIME: plain_onnxruntime,
    COMPILE: compiled,
}
