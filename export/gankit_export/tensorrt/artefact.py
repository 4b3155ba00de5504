"""Make a TensorRT engine file: export, build, measure, and only then put the engine and its manifest in their place."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gankit_export import manifest as manifests
from gankit_export.artefact import Source, judged
from gankit_export.files import atomic_path
from gankit_export.formats import InOut
from gankit_export.gpu import Gpu
from gankit_export.manifest import Manifest
from gankit_export.onnx import (
    CONVOLUTIONS,
    PRODUCTS,
    default_opset,
    dims,
    half_convolutions,
)
from gankit_export.parity import Batch, Inputs, cut
from gankit_export.precisions import Precision
from gankit_export.preparing import prepare
from gankit_export.tensorrt.build import BuildSettings, Progress, build
from gankit_export.tensorrt.library import TensorRTError, library
from gankit_export.tensorrt.machine import Machine, this_machine
from gankit_export.tensorrt.profiles import Profile, Shape, nhwc
from gankit_export.tensorrt.runtime import Session
from gankit_export.tensorrt.store import SUFFIX, EngineFacts


def make_engine(
    generator: nn.Module,
    source: Source,
    path: Path | str,
    profiles: Sequence[Profile],
    *,
    gpu: Gpu,
    pixels: Sequence[NDArray[np.unsignedinteger]] = (),
    names: Sequence[str] = (),
    precision: Precision = "fp32",
    settings: BuildSettings | None = None,
    threshold: float | None = None,
    progress: Progress | None = None,
    in_out: InOut = "float32",
) -> Manifest:
    """Write an engine and its manifest; both are there and proven, or what was there before is untouched.

    Args:
        generator: fp32, eval mode, on the CPU.
        source: its facts.
        path: the ``.engine`` file; replaced if it exists.
        profiles: shapes that the engine takes; of images (N, C, H, W), whatever their layout in the engine.
        gpu: the GPU for which it is built.
        pixels: images for the parity check, (H, W, 3) RGB, uint8 or uint16; at least one, unless the generator starts
            from latents.
        names: names of the images, for the manifest.
        precision: of everything but normalisations.
        settings: how to build it; ``None`` uses the defaults.
        threshold: PSNR in dB that each shape has to reach; ``None`` for ``THRESHOLDS``.
        progress: called while the engine is built.
        in_out: what the engine takes and gives: float32 in every precision, or uint8 pixels, (N, H, W, C).

    Raises:
        ParityFailedError: The engine does not reach the threshold. It is not written.
        TensorRTError: TensorRT cannot be used, or cannot build the engine.
        ExportError: The generator cannot be exported.
        RangeError: A weight is too large for the precision.
        OSError: The files cannot be written.
    """
    trt, path, settings = library(), Path(path), settings or BuildSettings()
    given, opset = _batches(profiles, source, pixels), default_opset(precision)
    prepared = prepare(generator, source, [] if source.latent else given, precision, in_out=in_out)  # type: ignore[arg-type]
    if source.latent:
        prepared = replace(prepared, batches=given)
    if in_out == "uint8" and not source.latent:
        profiles = [nhwc(profile) for profile in profiles]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".gankit-", dir=path.parent) as folder:
        draft = Path(folder) / "model.onnx"
        prepared.write_onnx(draft, opset)
        model = draft.read_bytes()
        shapes, typed_layers = dims(draft), half_convolutions(draft, CONVOLUTIONS + (PRODUCTS if source.latent else ()))
        plan = build(model, profiles, settings, path=draft, progress=progress).plan
    session = Session(plan, gpu)
    try:
        layers = proven_layers(session, precision)
        figures = prepared.measured(on_arrays(session, gpu))
    finally:
        session.close()
    digest = hashlib.sha256(plan).hexdigest()
    facts = EngineFacts(
        hashlib.sha256(model).hexdigest(), this_machine(trt, gpu.device), tuple(profiles), settings, layers
    )
    manifest = judged(
        prepared,
        figures,
        precision,
        threshold,
        opset=opset,
        dims=shapes,
        sha256=digest,
        half_convolutions=typed_layers,
        runtime="tensorrt",
        versions={
            **source.versions,
            **manifests.versions("torch", "onnx", "onnxscript"),
            "tensorrt": trt.__version__,
        },
        images=tuple(names),
        kind="tensorrt",
        engine=replace(facts, sha256=digest).to_json(),
    )
    with atomic_path(path, suffix=SUFFIX) as temporary:
        temporary.write_bytes(plan)
        manifests.write(manifest, path)  # first: an engine without its manifest is unproven
    return manifest


def read_engine(path: Path | str, here: Machine) -> tuple[bytes, Manifest]:
    """Read an engine file with its manifest, and check that it is the one that was proven and that it can run here.

    Args:
        path: the ``.engine`` file.
        here: the machine that is to run it.

    Raises:
        FileNotFoundError: There is no such file.
        TensorRTError: The manifest is missing, or describes another engine or another machine.
    """
    path = Path(path)
    plan = path.read_bytes()
    try:
        manifest = manifests.read(path)
        facts = EngineFacts.from_json(manifest.engine)
    except FileNotFoundError:
        name = manifests.manifest_path(path).name
        raise TensorRTError(f"{path}: its manifest {name} is missing; export the engine again") from None
    except ValueError as error:
        raise TensorRTError(f"{path}: its manifest does not match ({error}); export the engine again") from error
    if why := facts.machine.mismatch(here):
        raise TensorRTError(f"{path}: {why}; export the engine on this machine")
    return plan, manifest


def proven_layers(session: Session, precision: Precision) -> tuple[int, int]:
    """Count the half-precision layers of an engine, and all; see :mod:`gankit_export.tensorrt.inspector`.

    Raises:
        TensorRTError: If an fp16 or bf16 engine has none.
    """
    half, every = session.half_layers()
    if precision != "fp32" and every and not half:
        raise TensorRTError(f"the engine computes none of its {every} layers in {precision}")
    return half, every


def on_arrays(session: Session, gpu: Gpu) -> Callable[..., Batch]:
    """Return a function that runs an engine on arrays."""

    def run(*given: NDArray[Any]) -> Batch:
        with torch.inference_mode(), gpu.scope():
            result = session.run(*(torch.from_numpy(item).to(gpu.device) for item in given)).cpu()
        array: Batch = result.numpy()
        return array

    return run


def _batches(
    profiles: Sequence[Profile], source: Source, pixels: Sequence[NDArray[np.unsignedinteger]]
) -> list[Inputs]:
    """Return inputs of the smallest, the best and the largest size of each profile.

    The largest size has the smallest batch: fp32 on the CPU, with which it is compared, takes long.
    """
    found: dict[tuple[tuple[str, Shape], ...], Inputs] = {}
    for profile in profiles:
        first = next(iter(profile.inputs.values()))
        for pick in ("least", "best", "most"):
            shapes: Mapping[str, Shape] = {name: getattr(item, pick) for name, item in profile.inputs.items()}
            if pick == "most" and len(first.most) > 2:
                shapes = {name: (item.least[0], *item.most[1:]) for name, item in profile.inputs.items()}
            if (key := tuple(shapes.items())) not in found:
                found[key] = _inputs(shapes, source, pixels, len(found))
    return list(found.values())


def _inputs(
    shapes: Mapping[str, Shape], source: Source, pixels: Sequence[NDArray[np.unsignedinteger]], index: int
) -> Inputs:
    if source.latent:
        stream = np.random.default_rng(index)
        given = [
            stream.standard_normal(shape, dtype=np.float32)
            if len(shape) > 1
            else np.arange(shape[0], dtype=np.int64) % source.classes
            for shape in shapes.values()
        ]
        return tuple(given)
    ((batch, _, height, width),) = shapes.values()
    one = cut(pixels[index % len(pixels)], (height, width), channels=source.channels, value_range=source.value_range)
    return np.ascontiguousarray(np.repeat(one, batch, axis=0))
