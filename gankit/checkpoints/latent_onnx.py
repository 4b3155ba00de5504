"""An ONNX file of gankit's that generates images from latents, as a model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import onnx
import torch
from gankit_export.manifest import Manifest
from onnx import TensorProto, helper

from gankit.checkpoints.exported import facts_of
from gankit.checkpoints.onnx_module import OnnxModule, stated_range
from gankit.checkpoints.types import Loaded
from gankit.models.facts import Facts


def open_latent(data: bytes, stated: Mapping[str, str], manifest: Manifest | None, path: Path) -> Loaded:
    """Load a file of gankit's that generates from latents, whose facts are in its manifest or in the file itself."""
    module = OnnxModule(with_float_output(data)).eval()
    digest = hashlib.sha256(data).hexdigest()
    if manifest is not None:
        return Loaded(module, replace(facts_of(path, manifest), precisions=("fp32",)), digest, path, "its manifest")
    latent, classes = int(stated["latent"]), int(stated.get("classes", 0))
    given = [torch.zeros(1, latent), *([torch.zeros(1, dtype=torch.int64)] if classes else [])]
    _, channels, height, width = module(*given).shape
    facts = Facts(
        task="generate",
        name=path.stem or "onnx",
        paper="an ONNX file",
        channels=channels,
        value_range=stated_range(stated) or (0.0, 1.0),
        latent=latent,
        classes=classes,
        output_size=(height, width),
        precisions=("fp32",),
    )
    return Loaded(module, facts, digest, path, "what it says of itself")


def with_float_output(data: bytes) -> bytes:
    """Return a file that generates float32, NCHW, whether it gives that or uint8 pixels, NHWC."""
    model = onnx.load_from_string(data)
    (made,) = model.graph.output
    if made.type.tensor_type.elem_type != TensorProto.UINT8:
        return data
    model.graph.node.append(helper.make_node("Cast", [made.name], ["edge/float"], to=TensorProto.FLOAT))
    model.graph.node.append(helper.make_node("Transpose", ["edge/float"], ["edge/images"], perm=(0, 3, 1, 2)))
    sides: list[str | int | None] = ["batch", None, None, None]
    model.graph.output.remove(made)
    model.graph.output.append(helper.make_tensor_value_info("edge/images", TensorProto.FLOAT, sides))
    return bytes(model.SerializeToString())
