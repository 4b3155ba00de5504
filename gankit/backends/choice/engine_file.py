"""The engine of an engine file. There is nothing to choose or to measure: its manifest holds its parity."""

from __future__ import annotations

from gankit_export import gpu as gpus
from gankit_export.tensorrt.artefact import read_engine
from gankit_export.tensorrt.library import TensorRTError, library
from gankit_export.tensorrt.machine import this_machine

from gankit.backends import get
from gankit.backends.base import EngineSpec
from gankit.backends.choice.parity import Parity, parity_message
from gankit.backends.choice.select import Selection
from gankit.backends.tensorrt_engine import FileEngine
from gankit.checkpoints import Loaded
from gankit.checkpoints.engine_files import EngineFile
from gankit.errors import BackendError, UsageError
from gankit.options import EngineOptions


def spec_of_file(loaded: Loaded, options: EngineOptions) -> EngineSpec | None:
    """Return the spec of an engine file; ``None`` if the model is anything else.

    Raises:
        UsageError: If the options ask for another backend or precision than that of the file.
        BackendError: If there is no GPU or no TensorRT.
    """
    if not isinstance(loaded.generator, EngineFile):
        return None
    precision = loaded.generator.manifest.precision
    if options.backend not in ("auto", "tensorrt"):
        raise UsageError(f"{loaded.path}: --backend {options.backend} does not run engine files; use the model itself")
    if options.precision not in ("auto", precision):
        raise UsageError(
            f"{loaded.path}: computes in {precision}, not in {options.precision}, which was chosen or which 16-bit "
            f"images need; use --precision {precision}, or export another engine"
        )
    device = "cuda" if options.device == "auto" else options.device
    kinds = get("tensorrt").precisions.get(device.partition(":")[0], ())
    spec = EngineSpec(
        loaded.generator,
        loaded.facts,
        next((item for item in kinds if item == precision), "fp32"),
        device,
        notify=None,
    )
    if not kinds:
        raise UsageError(f"{loaded.path}: an engine file runs on a GPU, not on {options.device}; use --device cuda")
    if why := get("tensorrt").missing(spec):
        raise BackendError(f"{loaded.path}: {why}")
    return spec


def select_file(loaded: Loaded, options: EngineOptions) -> Selection | None:
    """Load an engine file; ``None`` if the model is anything else.

    Raises:
        UsageError, BackendError: See :func:`spec_of_file`; also if the engine was built on another machine.
    """
    spec = spec_of_file(loaded, options)
    if spec is None:
        return None
    gpu = gpus.Gpu(spec.device)
    try:
        plan, manifest = read_engine(loaded.path, this_machine(library(), gpu.device))
    except TensorRTError as error:
        raise BackendError(str(error)) from error
    worst = min(manifest.parity, key=lambda item: item.worst)
    parity = Parity(worst.psnr, worst.max_abs, worst.title)
    summary = f"tensorrt {manifest.precision}, {parity_message(parity)}, by the manifest of the file"
    return Selection(FileEngine(spec, gpu, plan, manifest.sha256), parity, summary)
