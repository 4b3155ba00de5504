"""The int8 file of a run: found in the cache or built for it. Imports no torch unless it builds one.

``auto`` never builds one, because that takes minutes and int8 is lossy. It measures a file that an earlier run with
``--precision int8`` built, on CPUs without bf16, and takes it only if it passes the parity check of all precisions.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gankit.backends.choice import quantised
from gankit.backends.choice.machine import machine
from gankit.errors import BackendError, ParityError, UsageError
from gankit.options import EngineOptions

if TYPE_CHECKING:
    from gankit.backends.choice.select import Selection
    from gankit.checkpoints.types import Loaded

Notify = Callable[[str], None]


def int8_file(loaded: Loaded, options: EngineOptions, notify: Notify | None = None) -> str:
    """Return the sha256 of the int8 file in the cache that a run may use; empty if there is none.

    With the precision ``"int8"``, the file is built if it is not there. With ``"auto"``, one that is there is returned
    on a CPU without bf16.

    Args:
        loaded: the model.
        options: the engine options.
        notify: called with each line to report to the user.

    Raises:
        UsageError: If the model cannot be quantised, or the folder of calibration images cannot be used.
        ParityError: If no int8 file reaches the gate. The message has the figures.
        BackendError, CheckpointError, ImageError, OutputError: If a file cannot be built, read or written.
    """
    if options.precision == "int8":
        check_int8(loaded, options)
        return _built(loaded, options.calibration, notify)
    if (
        options.precision == "auto"
        and options.device.partition(":")[0] in ("auto", "cpu")
        and loaded.facts.task != "generate"
        and quantised.folder().is_dir()
        and not machine().fast_bf16
    ):
        return quantised.look_up(quantised.stem(loaded), notify=notify) or ""
    return ""


def check_int8(loaded: Loaded, options: EngineOptions) -> None:
    """Check that a model can run in int8 here, before anything is built.

    Raises:
        UsageError: If the model takes no images or has no weights that gankit can quantise, or the device is a GPU.
    """
    facts = loaded.facts
    if facts.task == "generate":
        raise UsageError(
            f"'{facts.name}' generates from noise; int8 is for models that take images, so use --precision fp32"
        )
    if loaded.path.suffix.lower() in (".onnx", ".xml", ".engine", ".pt2", ".param"):
        raise UsageError(f"{loaded.path}: is an exported file; use the weights from which it was exported with int8")
    if options.device.startswith("cuda"):
        raise UsageError(
            "int8 runs on the CPU; use --device cpu, or run a file of `gankit export --format tensorrt --int8`"
        )


def lossy(selection: Selection, loaded: Loaded) -> str:
    """Return the line that says what int8 costs in a run."""
    found = selection.parity
    parity = "" if found is None else f" ({found.psnr:.1f} dB from fp32 at worst)"
    return f"{loaded.facts.name} runs in int8, which is lossy{parity}; --precision fp32 keeps every level"


def _built(loaded: Loaded, calibration: str | None, notify: Notify | None) -> str:
    digest = quantised.digest_of(_contents(calibration))
    stem = quantised.stem(loaded)
    if found := quantised.look_up(stem, digest, notify):
        return found
    if reason := quantised.refusal(stem, digest):
        raise ParityError(
            f"'{loaded.facts.name}': {reason} (found by an earlier run; "
            f"`gankit cache remove '{stem}-*'` has it searched again); use --precision fp32"
        )
    from gankit.pipeline.quantising import check_packages, export_int8

    check_packages()

    if notify is not None:
        notify(f"building {loaded.facts.name} in int8 by NNCF; this takes minutes once, and the file is cached")
    home = quantised.folder()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".gankit-", dir=home) as scratch:
            draft = Path(scratch) / "model.onnx"
            try:
                made = export_int8(loaded, draft, calibration=calibration, notify=notify)
            except ParityError as error:
                said = str(error).removeprefix(f"{draft}: not written: ").partition("; use ")[0]
                quantised.store_refusal(stem, digest, said)
                raise ParityError(f"'{loaded.facts.name}': {said}; use --precision fp32") from error
            path = home / f"{stem}-{digest}-{made.manifest.sha256}.onnx"
            draft.with_name(draft.name + ".json").replace(path.with_name(path.name + ".json"))
            draft.replace(path)  # last: a file without its manifest is unproven
    except OSError as error:
        why = f"cannot be written ({error.strerror or error}); set GANKIT_CACHE to a folder with free space"
        raise BackendError(f"{home}: the int8 file {why}") from error
    return made.manifest.sha256


def _contents(calibration: str | None) -> list[bytes]:
    """Return the content of the calibration images; none for those that ship with gankit."""
    if calibration is None:
        return []
    from gankit.pipeline.quantising import calibration_files

    return [path.read_bytes() for path in calibration_files(Path(calibration))]
