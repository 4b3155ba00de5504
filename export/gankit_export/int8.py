"""An fp32 ONNX file -> the same network in int8, with Q/DQ nodes that OpenVINO, ONNX Runtime and TensorRT run.

NNCF (Intel, Apache-2.0) sets the ranges from images. Its default estimator ruins upscalers, and its bias correction
ruins others, so that the estimator and the layers that stay in fp32 are searched by measurement. Each attempt runs in
OpenVINO, and the first one whose worst image reaches the gate is the result. The layers that stay in fp32 cost speed,
which is why the attempts begin with none of them; residual additions come first, because they hurt most.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import onnx

from gankit_export import manifest as manifests
from gankit_export.files import atomic_path
from gankit_export.int8_signed import signed
from gankit_export.manifest import Manifest
from gankit_export.onnx import CONVOLUTIONS, describe
from gankit_export.parity import Batch, Inputs, ShapeParity, compare, open_file

GATE_DB = 38.0  # of the worst image; below it the errors show in flat areas
LARGEST_LOSS = 0.15  # dB of PSNR on a benchmark
Kept = Literal["residual additions", "first convolution", "last convolution"]
LEVELS: tuple[tuple[Kept, ...], ...] = (
    (),
    ("residual additions",),
    ("first convolution", "residual additions"),
    ("first convolution", "last convolution", "residual additions"),
)
Run = Callable[..., Batch]
_TIMED = 5  # runs of each file; the fastest one counts
_NO_TELEMETRY = "NNCF_CI"  # NNCF's own switch, which it reads when it is imported


@dataclass(frozen=True)
class Estimator:
    """How NNCF sets the ranges.

    Attributes:
        ranges: ``"extreme"`` spans all values that were seen, ``"mean"`` the means of the images' extremes.
        symmetric: whether the ranges of activations are symmetric around 0 also where the values are not.
        corrected: whether biases are corrected by the mean error of the convolutions.
        signed: whether activations are signed also where no value is below 0, which costs them a bit. TensorRT reads
            nothing else.
    """

    ranges: Literal["extreme", "mean"] = "extreme"
    symmetric: bool = False
    corrected: bool = False
    signed: bool = False

    def __str__(self) -> str:
        parts = [f"{self.ranges} ranges", "symmetric" * self.symmetric, "signed" * self.signed]
        parts.append("corrected biases" * self.corrected)
        return ", ".join(filter(None, parts))


ESTIMATORS = (Estimator(), Estimator("mean"), Estimator(symmetric=True), Estimator(corrected=True))
SIGNED = tuple(
    Estimator(ranges, True, corrected, True) for corrected in (False, True) for ranges in ("extreme", "mean")
)
"""Estimators whose files TensorRT reads."""


@dataclass(frozen=True)
class Attempt:
    """One quantised file.

    Attributes:
        kept: what stays in fp32.
        estimator: how the ranges were set.
        parity: PSNR and largest difference of each image, against the fp32 file.
        loss: PSNR that the benchmark loses, in dB; ``None`` if it was not measured.
    """

    kept: tuple[Kept, ...]
    estimator: Estimator
    parity: tuple[ShapeParity, ...]
    loss: float | None = None

    @property
    def worst(self) -> float:
        """PSNR of the worst image in dB."""
        return min(item.psnr for item in self.parity)

    def passes(self, threshold: float) -> bool:
        """Whether the images and the benchmark are good enough."""
        return self.worst >= threshold and (self.loss is None or self.loss <= LARGEST_LOSS)

    def __str__(self) -> str:
        kept = f"{' and '.join(self.kept)} in fp32" if self.kept else "all layers in int8"
        loss = "" if self.loss is None else f", {self.loss:.2f} dB lost on the benchmark"
        return f"{self.worst:.1f} dB with {kept}, {self.estimator}{loss}"


class Int8RefusedError(RuntimeError):
    """No attempt reached the gate, and no file was kept.

    Attributes:
        attempts: all attempts, in order.
    """

    def __init__(self, attempts: Sequence[Attempt], threshold: float) -> None:
        self.attempts = tuple(attempts)
        best = max(attempts, key=lambda item: (item.worst >= threshold, -(item.loss or 0.0), item.worst))
        needed = f"{threshold:g} dB at the worst image, and at most {LARGEST_LOSS:g} dB lost, are needed"
        super().__init__(f"int8 reaches {best} at best of {len(attempts)} attempts; {needed}")


@dataclass(frozen=True)
class Material:
    """The images.

    Attributes:
        calibration: from which the ranges are set: (1, C, H, W) float32 in the value range of the model.
        test: on which the attempts are compared with fp32, likewise.
        names: names of the files of the calibration images.
        score: returns the mean PSNR of a runnable file on a benchmark in dB; ``None`` if there is no benchmark.
    """

    calibration: Sequence[Batch]
    test: Sequence[Batch]
    names: Sequence[str] = ()
    score: Callable[[Run], float] | None = None


def make_int8(
    source: Path | str,
    path: Path | str,
    material: Material,
    *,
    threshold: float = GATE_DB,
    estimators: Sequence[Estimator] = ESTIMATORS,
    progress: Callable[[str], None] | None = None,
) -> Manifest:
    """Write an int8 file with its manifest; both are there and measured, or what was there before is untouched.

    Args:
        source: an fp32 ONNX file of gankit that takes images, with its manifest beside it.
        path: the ``.onnx`` file to write; replaced if it exists.
        material: the images.
        threshold: PSNR against fp32 in dB that the worst image must reach.
        estimators: those to try with all layers in int8; the best one is then tried with layers in fp32.
        progress: called with a line for each attempt.

    Returns:
        The manifest. ``quantised`` holds the estimator, what stayed in fp32, the number of convolutions in int8 and of
        all, the names of the calibration images, the loss on the benchmark, and the speed of int8 over fp32 in OpenVINO
        here, in calls of the first calibration image.

    Raises:
        Int8RefusedError: No attempt reaches the gate.
        ImportError: NNCF or OpenVINO is not installed; ``name`` is the package.
        OSError: The files cannot be written.
    """
    path, source = Path(path), Path(source)
    library, model = nncf(), onnx.load(str(source))
    given = manifests.read(source)
    exact = open_file(source, "openvino")
    truths = [exact(batch) for batch in material.test]
    base = None if material.score is None else material.score(exact)
    attempts: list[Attempt] = []
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path, suffix=path.suffix) as draft:
        for level, kept in enumerate(LEVELS):
            for estimator in estimators if not level else _best(attempts):
                onnx.save(_quantised(library, model, material.calibration, kept, estimator), str(draft))
                run = open_file(draft, "openvino")
                parity = tuple(
                    parity_of(run(batch), truth, batch, given.value_range)
                    for batch, truth in zip(material.test, truths, strict=True)
                )
                attempt = Attempt(kept, estimator, parity)
                if attempt.passes(threshold) and material.score is not None and base is not None:
                    attempt = dataclasses.replace(attempt, loss=base - material.score(run))
                attempts.append(attempt)
                if progress is not None:
                    progress(str(attempt))
                if attempt.passes(threshold):
                    break
            if attempts[-1].passes(threshold):
                break
        else:
            raise Int8RefusedError(attempts, threshold)
        describe(draft, {"precision": "int8"})
        done = attempts[-1]
        facts = {
            "estimator": str(done.estimator),
            "kept_fp32": list(done.kept),
            "convolutions": list(int8_convolutions(draft)),
            "calibration": list(material.names),
            "benchmark_loss_db": done.loss,
            "speed_up": round(_speed_up(exact, run, material.calibration[0]), 2),
        }
        manifest = dataclasses.replace(
            given,
            precision="int8",
            sha256=manifests.sha256(draft),
            half_convolutions=(0, given.half_convolutions[1]),
            threshold=threshold,
            runtime="openvino",
            parity=done.parity,
            versions={**given.versions, **manifests.versions("nncf", "openvino")},
            quantised=facts,
        )
        manifests.write(manifest, path)  # an artefact without its manifest is unproven, so that this comes first
    return manifest


def nncf() -> Any:
    """Import NNCF without its telemetry, which reports each call to its authors.

    Raises:
        ImportError: It is not installed.
    """
    before = os.environ.get(_NO_TELEMETRY)
    os.environ[_NO_TELEMETRY] = "1"
    try:
        import nncf as library
    finally:
        if before is None:
            del os.environ[_NO_TELEMETRY]
        else:
            os.environ[_NO_TELEMETRY] = before
    library.set_log_level(40)  # logging.ERROR
    return library


def residual_additions(model: onnx.ModelProto) -> list[str]:
    """Return the names of the additions of two tensors that both depend on the input, in order."""
    constants = {item.name for item in model.graph.initializer}
    constants |= {name for node in model.graph.node if node.op_type == "Constant" for name in node.output}
    return [node.name for node in model.graph.node if node.op_type == "Add" and not constants & set(node.input)]


def int8_convolutions(path: Path | str) -> tuple[int, int]:
    """How many convolutions of a file take both their input and their weights from int8, and how many there are."""
    graph = onnx.load(str(path)).graph
    dequantised = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    convolutions = [node for node in graph.node if node.op_type in CONVOLUTIONS]
    return sum(set(node.input[:2]) <= dequantised for node in convolutions), len(convolutions)


def _best(attempts: Sequence[Attempt]) -> list[Estimator]:
    """Return the best estimator of the first level, to which the further levels are limited."""
    first = [item for item in attempts if not item.kept]
    return [max(first, key=lambda item: item.worst).estimator]


def _quantised(
    library: Any, model: onnx.ModelProto, images: Sequence[Batch], kept: Sequence[Kept], estimator: Estimator
) -> onnx.ModelProto:
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet as Ranges

    convolutions = [node.name for node in model.graph.node if node.op_type in CONVOLUTIONS]
    names: Mapping[Kept, list[str]] = MappingProxyType(
        {
            "residual additions": residual_additions(model),
            "first convolution": convolutions[:1],
            "last convolution": convolutions[-1:],
        }
    )
    ignored = list(dict.fromkeys(name for what in kept for name in names[what]))
    presets = library.QuantizationPreset
    ranges = {"extreme": Ranges.MINMAX, "mean": Ranges.MEAN_MINMAX}[estimator.ranges]
    advanced = AdvancedQuantizationParameters(
        activations_range_estimator_params=ranges,
        disable_bias_correction=not estimator.corrected,
    )
    entrance = model.graph.input[0].name
    with contextlib.redirect_stdout(io.StringIO()):  # progress bars
        result: onnx.ModelProto = library.quantize(
            model,
            library.Dataset([{entrance: image} for image in images]),
            preset=presets.PERFORMANCE if estimator.symmetric else presets.MIXED,
            subset_size=len(images),
            ignored_scope=library.IgnoredScope(names=ignored) if ignored else None,
            advanced_parameters=advanced,
        )
    return signed(result) if estimator.signed else result


def parity_of(result: Batch, truth: Batch, batch: Inputs, value_range: tuple[float, float]) -> ShapeParity:
    """Compare an image of an int8 file with that of the fp32 file."""
    psnr, largest = compare(result, truth, value_range)
    shape = batch[0].shape if isinstance(batch, tuple) else batch.shape
    return ShapeParity(tuple(shape), psnr, largest, psnr)


def _speed_up(exact: Run, run: Run, batch: Batch) -> float:
    """Return how many times faster the second file is than the first; both run in turn, and the fastest runs count."""
    best = {exact: float("inf"), run: float("inf")}
    for _ in range(_TIMED):
        for each in best:
            began = time.perf_counter()
            each(batch)
            best[each] = min(best[each], time.perf_counter() - began)
    return best[exact] / best[run]
