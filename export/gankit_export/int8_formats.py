"""An int8 ONNX file -> the same network as OpenVINO IR or as TensorRT engine, each measured again on the real file.

TensorRT reads Q/DQ nodes with signed values and zero points of 0 only, which :mod:`gankit_export.int8_signed` makes.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from gankit_export import manifest as manifests
from gankit_export.int8 import LARGEST_LOSS, Int8RefusedError, Material, Run, parity_of
from gankit_export.int8_signed import unreadable_by_tensorrt
from gankit_export.manifest import Manifest
from gankit_export.parity import Batch, ShapeParity, open_file
from gankit_export.publishing import drafts, publish

if TYPE_CHECKING:
    from gankit_export.gpu import Gpu
    from gankit_export.tensorrt.profiles import Profile

_LAYERS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData")


class QuantisationError(RuntimeError):
    """The file lacks the int8 layers that it should have, or the runtime cannot read them. One line."""


def make_int8_ir(source: Path, exact: Path, path: Path | str, material: Material) -> Manifest:
    """Write an int8 OpenVINO IR and its manifest; all files are there and proven, or what was there is untouched.

    Args:
        source: an int8 ONNX file with its manifest, from :func:`gankit_export.int8.make_int8`.
        exact: the fp32 ONNX file from which it was made, with which the IR is compared.
        path: the ``.xml`` file; replaced if it exists. The weights go to the ``.bin`` file of the same name.
        material: the images.

    Raises:
        Int8RefusedError: The IR does not reach the gate of the file from which it is made.
        QuantisationError: OpenVINO has dissolved the int8 layers.
        OSError: The files cannot be written.
    """
    import openvino

    from gankit_export.openvino_core import openvino_core

    path, given = Path(path), manifests.read(source)
    with drafts(path.parent) as folder:
        draft = folder / path.name
        openvino.save_model(openvino_core().read_model(str(source)), str(draft), compress_to_fp16=False)
        count, every = int8_layers(draft)
        if not count:
            raise QuantisationError(f"none of the {every} convolutions of the OpenVINO IR is in int8")
        facts, parity = _measured(open_file(draft, "openvino"), open_file(exact, "openvino"), material, given)
        weights = draft.with_suffix(".bin")
        manifest = dataclasses.replace(
            given,
            kind="openvino",
            sha256=manifests.sha256(draft),
            files={weights.name: manifests.sha256(weights)},
            half_convolutions=(0, every),
            parity=parity,
            quantised={**facts, "convolutions": [count, every]},
        )
        publish(draft, [weights], manifest, path)
    return manifest


def int8_layers(path: Path) -> tuple[int, int]:
    """Count the convolutions of an IR whose weights are int8 and whose input is quantised, and all.

    Args:
        path: the ``.xml`` file.
    """
    from gankit_export.openvino_core import openvino_core

    layers = [item for item in openvino_core().read_model(str(path)).get_ops() if item.get_type_name() in _LAYERS]
    return sum(_stored(item) in ("i8", "u8") and _quantised(item) for item in layers), len(layers)


def make_int8_engine(
    source: Path,
    exact: Path,
    path: Path | str,
    profiles: Sequence[Profile],
    material: Material,
    *,
    gpu: Gpu,
    progress: Callable[[str, float], None] | None = None,
) -> Manifest:
    """Write an int8 TensorRT engine and its manifest; both are there and proven, or what was there is untouched.

    Args:
        source: an int8 ONNX file with its manifest, whose values are signed and whose zero points are 0.
        exact: the fp32 ONNX file from which it was made, with which the engine is compared.
        path: the ``.engine`` file; replaced if it exists.
        profiles: shapes that the engine takes. Test images are cut or mirrored to the best shape of each.
        material: the images.
        gpu: the GPU for which it is built.
        progress: called while the engine is built.

    Raises:
        Int8RefusedError: The engine does not reach the gate of the file from which it is made.
        QuantisationError: TensorRT cannot read the Q/DQ nodes of the file, or computes no layer in int8.
        TensorRTError: TensorRT cannot be used, or cannot build the engine.
        OSError: The files cannot be written.
    """
    from gankit_export.tensorrt.artefact import on_arrays
    from gankit_export.tensorrt.build import BuildSettings, build
    from gankit_export.tensorrt.library import library
    from gankit_export.tensorrt.machine import this_machine
    from gankit_export.tensorrt.runtime import Session
    from gankit_export.tensorrt.store import EngineFacts

    path, given, trt, settings = Path(path), manifests.read(source), library(), BuildSettings()
    if why := unreadable_by_tensorrt(onnx.load(str(source))):
        raise QuantisationError(f"TensorRT does not read the int8 file: {why}")
    plan = build(source.read_bytes(), profiles, settings, path=source, progress=progress).plan
    session = Session(plan, gpu)
    try:
        count, every = session.int8_layers()
        if every and not count:
            raise QuantisationError(f"the TensorRT engine computes none of its {every} layers in int8")
        shapes = [next(iter(profile.inputs.values())).best for profile in profiles]
        test = [_resized(batch, shape) for batch in material.test for shape in shapes]
        own = dataclasses.replace(material, test=test, score=None)  # Set5 has other sizes than the engine
        facts, parity = _measured(on_arrays(session, gpu), open_file(exact, "onnxruntime"), own, given)
        half = session.half_layers()
    finally:
        session.close()
    digest, machine = hashlib.sha256(plan).hexdigest(), this_machine(trt, gpu.device)
    engine = EngineFacts(given.sha256, machine, tuple(profiles), settings, half)
    manifest = dataclasses.replace(
        given,
        kind="tensorrt",
        sha256=digest,
        runtime="tensorrt",
        parity=parity,
        versions={**given.versions, "tensorrt": trt.__version__},
        engine=dataclasses.replace(engine, sha256=digest).to_json(),
        quantised={**facts, "layers": [count, every]},
    )
    with drafts(path.parent) as folder:
        draft = folder / path.name
        draft.write_bytes(plan)
        publish(draft, [], manifest, path)
    return manifest


def _measured(
    run: Run, exact: Run, material: Material, given: Manifest
) -> tuple[dict[str, Any], tuple[ShapeParity, ...]]:
    """Compare a file with the fp32 one, as the int8 ONNX file was compared.

    Raises:
        Int8RefusedError: It is below the threshold of the manifest.
    """
    from gankit_export.int8 import Attempt, Estimator

    parity = tuple(parity_of(run(batch), exact(batch), batch, given.value_range) for batch in material.test)
    loss = None if material.score is None else material.score(exact) - material.score(run)
    facts = dict(given.quantised)
    worst = min(item.psnr for item in parity)
    if worst < given.threshold or (loss is not None and loss > LARGEST_LOSS):
        raise Int8RefusedError([Attempt(tuple(facts["kept_fp32"]), Estimator(), parity, loss)], given.threshold)
    return {**facts, "benchmark_loss_db": facts["benchmark_loss_db"] if loss is None else loss}, parity


def _resized(batch: Batch, shape: Sequence[int]) -> Batch:
    """Cut an image, or mirror a small one, to a shape (N, C, H, W)."""
    count, _, height, width = shape
    short = [(0, max(0, want - have)) for want, have in zip((height, width), batch.shape[2:], strict=True)]
    image = np.pad(batch, ((0, 0), (0, 0), *short), mode="symmetric")[:, :, :height, :width]
    return np.ascontiguousarray(np.repeat(image, count, axis=0))


def _stored(layer: Any) -> str:
    """The type in which the weights of a layer are stored."""
    node = layer.input_value(1).get_node()
    while node.get_type_name() != "Constant" and node.get_input_size():
        node = node.input_value(0).get_node()
    return str(node.get_element_type().get_type_name())


def _quantised(layer: Any) -> bool:
    """Whether the input of a layer comes from a quantisation."""
    node = layer.input_value(0).get_node()
    for _ in range(4):  # FakeQuantize itself, or what dequantises: Convert, Subtract, Multiply
        if node.get_type_name() == "FakeQuantize" or str(node.get_output_element_type(0).get_type_name()) in (
            "i8",
            "u8",
        ):
            return True
        if not node.get_input_size():
            return False
        node = node.input_value(0).get_node()
    return False
