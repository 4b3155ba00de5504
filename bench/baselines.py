"""What gankit is compared with: what a careful person writes with each library in ten lines.

Each takes (1, 3, H, W) uint8 and returns uint8; the generator gets values in the range of its facts. Nothing is done
to slow them down: ONNX Runtime and OpenVINO read the ONNX file that the exporter made of the plain generator, take the
whole image with their default settings (OpenVINO computes in bf16 where the CPU has it), and compile before the first
run. For OpenVINO that is the stronger of its two ways: its own converter from PyTorch gave slower code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.common import EAGER, ONNXRUNTIME, OPENVINO

Range = tuple[float, float]


@dataclass(frozen=True)
class Plain:
    """A library, ready.

    Attributes:
        run: uint8 to uint8, (1, 3, H, W).
        precision: of its arithmetic.
        threads: that it takes by itself.
    """

    run: Callable[[np.ndarray], np.ndarray]
    precision: str
    threads: int


def values_of(pixels: np.ndarray, limits: Range) -> np.ndarray:
    """uint8 -> float32 in the generator's range."""
    low, high = limits
    return pixels.astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)


def pixels_of(values: np.ndarray, limits: Range) -> np.ndarray:
    """The generator's range -> uint8."""
    low, high = limits
    return np.rint((values.clip(low, high) - low) * (255 / (high - low))).astype(np.uint8)


def eager(model: str, onnx: str, limits: Range, shape: tuple[int, ...]) -> Plain:
    """The module as it is, in fp32."""
    import torch

    from gankit.checkpoints import open_model

    generator = open_model(model).generator

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return pixels_of(generator(torch.from_numpy(values_of(pixels, limits))).numpy(), limits)

    return Plain(run, "fp32", torch.get_num_threads())


def onnxruntime(model: str, onnx: str, limits: Range, shape: tuple[int, ...]) -> Plain:
    """ONNX Runtime's default session, fp32."""
    import onnxruntime as ort
    import psutil

    session = ort.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(pixels: np.ndarray) -> np.ndarray:
        return pixels_of(session.run(None, {name: values_of(pixels, limits)})[0], limits)

    return Plain(run, "fp32", psutil.cpu_count(logical=False) or 1)


def openvino(model: str, onnx: str, limits: Range, shape: tuple[int, ...]) -> Plain:
    """OpenVINO's default settings, for the shape of the image."""
    import openvino as ov

    core = ov.Core()
    graph = core.read_model(onnx)
    graph.reshape(list(shape))
    compiled = core.compile_model(graph, "CPU")
    kind = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()

    def run(pixels: np.ndarray) -> np.ndarray:
        return pixels_of(compiled(values_of(pixels, limits))[0], limits)

    return Plain(run, {"f32": "fp32", "f16": "fp16"}.get(kind, kind), compiled.get_property("INFERENCE_NUM_THREADS"))


BASELINES: dict[str, Callable[[str, str, Range, tuple[int, ...]], Plain]] = {
    EAGER: eager,
    ONNXRUNTIME: onnxruntime,
    OPENVINO: openvino,
}
PACKAGES = {EAGER: "torch", ONNXRUNTIME: "onnxruntime", OPENVINO: "openvino"}


def image(plain: Plain, source: Path, target: Path) -> None:
    """The plain way with one image: Pillow reads, the network runs, Pillow saves a PNG with its default settings."""
    from PIL import Image

    with Image.open(source) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    result = plain.run(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))
    Image.fromarray(np.ascontiguousarray(result[0].transpose(1, 2, 0))).save(target)
