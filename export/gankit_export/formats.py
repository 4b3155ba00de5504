"""The file formats that an export can have. Importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from gankit_export.precisions import PRECISIONS, Precision

Format = Literal["onnx", "tensorrt", "openvino", "aoti", "ncnn", "tritonserver"]
InOut = Literal["float32", "uint8"]
"""What a file takes and gives: float32 in the value range of the model, NCHW; or uint8 pixels, NHWC."""
IN_OUT: tuple[InOut, ...] = get_args(InOut)

INPUT, OUTPUT = "input", "output"
"""Names of the first input and of the output of a file."""


@dataclass(frozen=True)
class FormatFacts:
    """The facts of a file format.

    Attributes:
        title: name for the user, with its article.
        suffix: end of the file name; empty for a folder.
        precisions: that a file can have.
        in_out: what a file can take and give.
        opset: whether the user may choose an ONNX opset, which the file keeps.
        shapes: whether a file can be made for certain shapes.
        device: whether a file is made for a device.
    """

    title: str
    suffix: str
    precisions: tuple[Precision, ...] = PRECISIONS
    in_out: tuple[InOut, ...] = ("float32",)
    opset: bool = False
    shapes: bool = False
    device: bool = False


FORMATS: Mapping[Format, FormatFacts] = MappingProxyType(
    {
        "onnx": FormatFacts("an ONNX file", ".onnx", in_out=IN_OUT, opset=True),
        "tensorrt": FormatFacts("a TensorRT engine", ".engine", in_out=IN_OUT, shapes=True, device=True),
        "openvino": FormatFacts("an OpenVINO IR", ".xml", in_out=IN_OUT),
        "aoti": FormatFacts("an AOTInductor package", ".pt2", in_out=IN_OUT, shapes=True, device=True),
        "ncnn": FormatFacts("an ncnn model", ".param", precisions=("fp32", "fp16")),
        "tritonserver": FormatFacts(
            "a Triton model repository", "", ("fp32", "fp16"), in_out=IN_OUT, opset=True, device=True
        ),
    }
)


def formats_with(fact: Literal["opset", "shapes", "device"]) -> str:
    """Name the formats that have an option, as in ``"onnx or tritonserver"``."""
    return " or ".join(name for name, facts in FORMATS.items() if getattr(facts, fact))


def formats_of(in_out: InOut) -> str:
    """Name the formats that can take and give something, as in ``"onnx, openvino or aoti"``."""
    *others, last = (name for name, facts in FORMATS.items() if in_out in facts.in_out)
    return f"{', '.join(others)} or {last}"
