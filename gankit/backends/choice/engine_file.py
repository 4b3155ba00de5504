"""The engine of an engine file. There is nothing to choose or to measure: its manifest holds its parity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gankit.backends import get
from gankit.backends.base import Engine, EngineSpec
from gankit.backends.choice.candidates import parse_device, parse_devices
from gankit.backends.choice.parity import Parity, parity_message
from gankit.backends.choice.select import Selection
from gankit.backends.choice.several import select_several
from gankit.checkpoints import Loaded
from gankit.checkpoints.engine_files import EngineFile
from gankit.errors import BackendError, UsageError
from gankit.options import EngineOptions


def spec_of_file(loaded: Loaded, options: EngineOptions) -> EngineSpec | None:
    """Return the spec of an engine file; ``None`` if the model is anything else.

    Raises:
        UsageError: If the options ask for another backend, precision or device than that of the file.
        BackendError: If there is no GPU, or a package is missing.
    """
    if not isinstance(loaded.generator, EngineFile):
        return None
    if options.device == "all" or "," in options.device:  # the first of them decides
        options = replace(options, device=parse_devices(options.device)[0])
    manifest = loaded.generator.manifest
    kind = manifest.kind
    precision = "fp32" if kind == "ncnn" else manifest.precision  # ncnn only stores weights in fp16
    if options.backend not in ("auto", kind):
        raise UsageError(
            f"{loaded.path}: --backend {options.backend} does not run this file, only {kind} does; use the model itself"
        )
    if options.precision not in ("auto", precision):
        raise UsageError(
            f"{loaded.path}: computes in {precision}, not in {options.precision}, which was chosen or which 16-bit "
            f"images need; use --precision {precision}, or export another file"
        )
    made_for = str(manifest.engine.get("device", "cpu")) if kind != "tensorrt" else "cuda"
    backend, device = get(kind), made_for if options.device == "auto" else options.device
    if device.partition(":")[0] != made_for:
        what = "an engine file runs on a GPU" if kind == "tensorrt" else f"this file runs on {made_for}"
        raise UsageError(f"{loaded.path}: {what}, not on {options.device}; use --device {made_for}")
    if kind != "tensorrt":
        device = parse_device(device)
    every = {item for kinds in backend.precisions.values() for item in kinds}
    spec = EngineSpec(
        loaded.generator,
        loaded.facts,
        next((item for item in loaded.facts.precisions if item == precision and item in every), "fp32"),
        device,
        threads=options.threads,
        notify=None,
    )
    # A package runs without the compiler that made it.
    if kind != "aoti" and (why := backend.missing(spec)):
        raise BackendError(f"{loaded.path}: {why}")
    return spec


def select_file(
    loaded: Loaded, options: EngineOptions, notify: Callable[[str], None] | None = None
) -> Selection | None:
    """Load an engine file, on one device or on several GPUs; ``None`` if the model is anything else.

    Args:
        loaded: the model.
        options: backend, precision, device and threads.
        notify: called with a line for each of several GPUs that is not used.

    Raises:
        UsageError, BackendError: See :func:`spec_of_file`; also if the file was made on another machine.
    """
    if not isinstance(loaded.generator, EngineFile):
        return None
    devices = parse_devices(options.device) if options.device == "all" or "," in options.device else ()
    if len(devices) > 1:

        def one(options: EngineOptions) -> Selection:
            selection = select_file(loaded, replace(options, backend="auto", precision="auto"))
            assert selection is not None
            return selection

        spec_of_file(loaded, replace(options, device=devices[0]))  # checks the options that the user chose
        return select_several(one, devices, options, notify or (lambda line: None))
    spec = spec_of_file(loaded, options)
    if spec is None:
        return None
    manifest = loaded.generator.manifest
    worst = min(manifest.parity, key=lambda item: item.worst)
    parity = Parity(worst.psnr, worst.max_abs, worst.title)
    engine = _opened(loaded, spec)
    if manifest.precision == "int8":
        engine.precision = "int8"
    summary = f"{manifest.kind} {manifest.precision}, {parity_message(parity)}, by the manifest of the file"
    return Selection(engine, parity, summary)


def _opened(loaded: Loaded, spec: EngineSpec) -> Engine:
    """Open the engine in a file, whose checksum the reader of the model has verified."""
    assert isinstance(loaded.generator, EngineFile)
    manifest = loaded.generator.manifest
    if manifest.kind == "aoti":
        from gankit.backends.aoti_engine import open_package_file

        return open_package_file(spec, loaded.path, manifest)
    if manifest.kind == "ncnn":
        from gankit.backends.ncnn_engine import open_ncnn_file

        return open_ncnn_file(spec, loaded.path, manifest)
    return _tensorrt(loaded, spec)


def _tensorrt(loaded: Loaded, spec: EngineSpec) -> Engine:
    from gankit_export import gpu as gpus
    from gankit_export.tensorrt.artefact import read_engine
    from gankit_export.tensorrt.library import TensorRTError, library
    from gankit_export.tensorrt.machine import this_machine

    from gankit.backends.tensorrt_engine import FileEngine

    gpu = gpus.Gpu(spec.device)
    try:
        plan, manifest = read_engine(loaded.path, this_machine(library(), gpu.device))
    except TensorRTError as error:
        raise BackendError(str(error)) from error
    return FileEngine(spec, gpu, plan, manifest.sha256)
