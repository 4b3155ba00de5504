"""Write the file of each export format: which function of gankit_export makes it, and from what. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gankit_export.formats import Format, InOut
from gankit_export.precisions import Precision

from gankit.errors import BackendError, CheckpointError

if TYPE_CHECKING:
    import numpy as np
    from gankit_export.artefact import Source
    from gankit_export.manifest import Manifest
    from gankit_export.parity import Batch
    from gankit_export.tritonserver import Serving

    from gankit.checkpoints import Loaded


@dataclass(frozen=True)
class Job:
    """What to write.

    Attributes:
        loaded: the model.
        path: the file, or the folder of a model repository.
        precision: of the file.
        opset: of an ONNX file; ``None`` for the lowest one that the precision needs.
        threshold: lowest accepted parity in dB; ``None`` for the default of the precision.
        parity_images: images of the user for the comparison.
        in_out: what the file takes and gives.
        shapes: shapes of the file; see :func:`gankit.pipeline.exporting.export`.
        device: for which the file is made.
        serving: how the Triton Inference Server runs the model; ``None`` for the defaults.
        progress: called while a TensorRT engine is built.
    """

    loaded: Loaded
    path: Path
    precision: Precision
    opset: int | None
    threshold: float | None
    parity_images: Sequence[str | Path]
    in_out: InOut
    shapes: str | None
    device: str
    serving: Serving | None
    progress: Callable[[str, float], None] | None

    @cached_property
    def source(self) -> Source:
        """Facts of the model for the export."""
        return _source(self.loaded)

    @cached_property
    def images(self) -> list[tuple[str, np.ndarray]]:
        """Names and pixels of the images for the comparison; none for a model that generates from noise."""
        return [] if self.loaded.facts.task == "generate" else _images(self.parity_images)

    def batches(self) -> list[Batch]:
        """Cut the images for the comparison."""
        from gankit_export.parity import samples

        facts = self.loaded.facts
        if not self.images:
            return []
        return samples(
            [pixels for _, pixels in self.images],
            channels=facts.channels,
            multiple=facts.multiple,
            minimum=facts.minimum,
            value_range=facts.value_range,
        )

    @property
    def common(self) -> dict[str, Any]:
        """Keywords of the functions that measure on batches."""
        names = [name for name, _ in self.images]
        return {"precision": self.precision, "threshold": self.threshold, "images": names}


def write(kind: Format, job: Job) -> Manifest:
    """Write a file of a format with its manifest.

    Raises:
        UsageError, BackendError: If the shapes or the device are wrong.
        ParityFailedError, ExportError, RangeError, ImportError, OSError: See
            :func:`gankit_export.artefact.make_onnx`.
    """
    return _WRITERS[kind](job)


def _write_onnx(job: Job) -> Manifest:
    from gankit_export.artefact import make_onnx

    own = {"opset": job.opset, "in_out": job.in_out, **job.common}
    return make_onnx(job.loaded.generator, job.source, job.path, job.batches(), **own)


def _write_ir(job: Job) -> Manifest:
    from gankit_export.openvino_ir import make_ir

    return make_ir(job.loaded.generator, job.source, job.path, job.batches(), in_out=job.in_out, **job.common)


def _write_package(job: Job) -> Manifest:
    from gankit_export.aoti_build import make_package
    from gankit_export.parity import cut

    from gankit.backends.choice.export import package_device, package_shape

    device, facts = package_device(job.device), job.loaded.facts
    shape = package_shape(facts, job.shapes)
    batches = job.batches()
    if shape is not None:
        import numpy as np

        batch, *sides = shape
        batches = [
            np.repeat(
                cut(pixels, (sides[0], sides[1]), channels=facts.channels, value_range=facts.value_range), batch, 0
            )
            for _, pixels in job.images
        ]
    return make_package(
        job.loaded.generator, job.source, job.path, batches, shape=shape, device=device, in_out=job.in_out, **job.common
    )


def _write_ncnn(job: Job) -> Manifest:
    from gankit_export.ncnn_build import make_ncnn

    return make_ncnn(job.loaded.generator, job.source, job.path, job.batches(), **job.common)


def _write_engine(job: Job) -> Manifest:
    return _engine(job, job.path)


def _engine(job: Job, path: Path) -> Manifest:
    from gankit_export.tensorrt.artefact import make_engine
    from gankit_export.tensorrt.library import TensorRTError

    from gankit.backends.choice.export import engine_gpu, engine_profile

    gpu, facts = engine_gpu(job.device), job.loaded.facts
    profile = engine_profile(facts, job.shapes)
    try:
        return make_engine(
            job.loaded.generator,
            job.source,
            path,
            [profile],
            gpu=gpu,
            pixels=[pixels for _, pixels in job.images],
            names=[name for name, _ in job.images],
            precision=job.precision,
            in_out=job.in_out,
            threshold=job.threshold,
            progress=job.progress,
        )
    except TensorRTError as error:
        raise BackendError(f"{facts.name}: {error}") from error


def _write_repository(job: Job) -> Manifest:
    from dataclasses import replace

    from gankit_export.publishing import drafts, publish_folder
    from gankit_export.tensorrt.store import EngineFacts
    from gankit_export.tritonserver import Serving, assembled, make_repository

    serving = job.serving or Serving()
    serving = replace(serving, device="cpu" if job.device == "cpu" else "gpu")
    if serving.backend == "onnxruntime":
        own = {"opset": job.opset, "in_out": job.in_out, "serving": serving, **job.common}
        return make_repository(job.loaded.generator, job.source, job.path, job.batches(), **own)
    with drafts(job.path.parent) as folder:
        engine = folder / "model.engine"
        manifest = _engine(job, engine)
        profiles = EngineFacts.from_json(manifest.engine).profiles
        most = min(next(iter(profile.inputs.values())).most[0] for profile in profiles)
        publish_folder(assembled(folder, engine, manifest, replace(serving, max_batch=most)), job.path)
    return manifest


_WRITERS: Mapping[Format, Callable[[Job], Manifest]] = {
    "onnx": _write_onnx,
    "tensorrt": _write_engine,
    "openvino": _write_ir,
    "aoti": _write_package,
    "ncnn": _write_ncnn,
    "tritonserver": _write_repository,
}


def _source(loaded: Loaded) -> Source:
    from gankit_export.artefact import Source

    from gankit.version import __version__

    facts = loaded.facts
    return Source(
        model=facts.name,
        weights=loaded.path.name,
        weights_sha256=loaded.sha256,
        options=facts.options,
        scale=facts.scale,
        channels=facts.channels,
        multiple=facts.multiple,
        value_range=facts.value_range,
        versions={"gankit": __version__},
        minimum=facts.minimum,
        latent=facts.latent,
        classes=facts.classes,
        metadata=_metadata(loaded),
    )


def _metadata(loaded: Loaded) -> dict[str, str]:
    """Return what the file says about itself beside the facts of gankit_export: task, halo, input and licence."""
    from gankit_export.receptive_field import halo

    from gankit.checkpoints.shipped import card_of, installed

    facts = loaded.facts
    found: dict[str, str] = {"task": facts.task}
    if facts.tileable:
        found["halo"] = str(halo(loaded.generator) if facts.halo is None else facts.halo)
    if facts.input_kind != "image":
        found["input_kind"] = facts.input_kind
    if facts.labels:
        found["labels"] = json.dumps(facts.labels)
    if facts.out_channels is not None:
        found["out_channels"] = str(facts.out_channels)
    if loaded.path == installed(loaded.path.stem):  # the weights ship, so that there is a card
        found["licence"] = str(card_of(loaded.path).get("licence", ""))
    return {name: value for name, value in found.items() if value}


def _images(paths: Sequence[str | Path]) -> list[tuple[str, np.ndarray]]:
    """Read the user's images, or the one that ships with gankit; return file names and pixels."""
    from importlib.resources import as_file, files

    from gankit.images import decode

    if paths:
        return [(Path(path).name, decode(Path(path)).pixels) for path in paths]
    with as_file(files("gankit.weights") / "parity.png") as shipped:
        if not shipped.is_file():
            raise CheckpointError(f"{shipped}: no such file; reinstall gankit, or use --parity-images")
        return [(shipped.name, decode(shipped).pixels)]
