"""The ONNX files from which engines are made, cached between runs.

The name of each file ends with the sha256 of its content, which is checked before every use.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from gankit_export.files import partial_path
from gankit_export.precisions import Precision

from gankit.backends.base import EngineSpec
from gankit.errors import BackendError
from gankit.paths import cache_folder
from gankit.version import __version__, installed_version, sources

T = TypeVar("T")
_SHA256 = re.compile("[0-9a-f]{64}")


def fingerprint(spec: EngineSpec, precision: Precision = "fp32") -> str:
    """Return 32 hexadecimal digits that depend on everything in an artefact: weights, facts, versions and code.

    The opset is part of the code (``gankit_export.onnx``).

    Args:
        spec: the generator.
        precision: precision of the file.
    """
    from gankit.checkpoints.fingerprint import module_sha256  # not needed to list what can run

    digest = hashlib.sha256()
    facts = {"name": spec.facts.name, "options": dict(spec.facts.options), "torch": installed_version("torch")}
    facts["precision"] = precision
    made_by: dict[str, Any] = {
        "onnx": installed_version("onnx"),
        "onnxscript": installed_version("onnxscript"),
        "gankit": __version__,
    }
    made_by["code"] = sources("gankit_export", "gankit.models")
    made_by["module"] = module_sha256(spec.generator)
    digest.update(json.dumps({**facts, **made_by}, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:32]


def open_onnx(spec: EngineSpec, open_file: Callable[[Path], T], precision: Precision = "fp32") -> T:
    """Open the generator's ONNX file, with dynamic sizes, after the exact rewrites.

    The file is exported once and cached. A cached file that has changed on disk, or that cannot be opened, is deleted
    and exported once more, which is reported in one line. If the cache cannot be written, the file goes to a temporary
    folder of this process.

    Args:
        spec: the generator. Lines for the user go to its ``notify``.
        open_file: opens the file, and raises any exception if the file is damaged.
        precision: types of the graph. Runtimes that choose the precision by themselves take an fp32 file. Inputs and
            outputs are float32 in every precision, and so are the statistics of normalisations.

    Returns:
        What ``open_file`` returns.

    Raises:
        BackendError: If the generator cannot be exported or the file cannot be written anywhere.
    """
    for path in _cached(spec, precision):
        try:
            return open_file(path)
        except (ImportError, MemoryError, BackendError):
            raise  # not the file's fault
        except Exception:  # each runtime has its own errors
            _discard(path, "cannot be opened", spec)
    return open_file(_exported(spec, _stem(spec, precision), precision))


def sha256_in_name(path: Path) -> str:
    """Return the sha256 that the content of an exported file must have."""
    return path.stem.rpartition("-")[2]


def is_intact(path: Path) -> bool:
    """Whether an exported file exists and its content has the sha256 in its name."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256_in_name(path)
    except OSError:
        return False


def _folder() -> Path:
    return cache_folder() / "onnx"


def _stem(spec: EngineSpec, precision: Precision) -> str:
    """Return the name of a generator's files, without the sha256 of their content."""
    return f"{re.sub(r'[^A-Za-z0-9._-]', '_', spec.facts.name)[:60]}-{fingerprint(spec, precision)}"


def _cached(spec: EngineSpec, precision: Precision) -> Iterator[Path]:
    """List the intact files of a generator. The one that the spec names comes first, and needs no generator."""
    if _SHA256.fullmatch(spec.artefact):
        yield from _intact(_folder(), "*", spec, spec.artefact)
    yield from _intact(_folder(), _stem(spec, precision), spec)


def _intact(folder: Path, stem: str, spec: EngineSpec, sha256: str = "[0-9a-f]" * 64) -> Iterator[Path]:
    """List the intact files of a generator, and discard those that have changed."""
    found: list[Path] = []
    with suppress(OSError):
        found = sorted(folder.glob(f"{stem}-{sha256}.onnx"))
    for path in found:
        if is_intact(path):
            with suppress(OSError):
                os.utime(path)  # the time of the last use, which `gankit cache` shows
            yield path
        else:
            _discard(path, "has changed since gankit wrote it", spec)


def _discard(path: Path, why: str, spec: EngineSpec) -> None:
    with suppress(OSError):
        path.unlink()
    if spec.notify is not None:
        spec.notify(f"{path}: this cached file {why}; exporting the model again")


def _exported(spec: EngineSpec, stem: str, precision: Precision) -> Path:
    """Export the file to the cache. If that fails, export it to the temporary folder, unless it exists there."""
    folder = _folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass  # find out before the export, which takes seconds
        return _export(spec, folder, stem, precision)
    except OSError as error:
        try:
            private = _private_folder()
            return next(_intact(private, stem, spec), None) or _export(spec, private, stem, precision)
        except OSError:
            why = f"cannot be written ({error.strerror}); set GANKIT_CACHE to a folder with free space"
            raise BackendError(f"{folder}: the exported model {why}") from error


def _export(spec: EngineSpec, folder: Path, stem: str, precision: Precision) -> Path:
    """Export the generator to a file that appears whole, under the name of its content."""
    temporary = partial_path(folder, ".onnx")
    try:
        _write(spec, temporary, precision)
        with temporary.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return temporary.replace(folder / f"{stem}-{digest}.onnx")
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write(spec: EngineSpec, path: Path, precision: Precision) -> None:
    from gankit_export.latent import export_latent_onnx, typed_latent
    from gankit_export.onnx import ExportError, default_opset, export_onnx
    from gankit_export.precision import RangeError, typed
    from gankit_export.rewrites import for_inference

    from gankit.checkpoints.onnx_module import OnnxModule

    facts, opset = spec.facts, default_opset(precision)
    if isinstance(spec.generator, OnnxModule):
        path.write_bytes(spec.generator.file)  # it is one already
        return
    try:
        if facts.task == "generate":
            module = spec.generator
            if precision != "fp32":
                module = typed_latent(module, precision, conditional=facts.classes > 0)
            export_latent_onnx(module, path, latent=facts.latent, classes=facts.classes, opset=opset)
            return
        module = for_inference(spec.generator)
        if precision != "fp32":
            module = typed(module, precision)
        quick = precision == "fp32"  # every engine is compared with the module, at several sizes
        export_onnx(module, path, channels=facts.channels, multiple=facts.multiple, opset=opset, quick=quick)
    except ExportError as error:
        raise BackendError(f"'{facts.name}': {error}") from error
    except RangeError as error:
        raise BackendError(f"'{facts.name}' cannot run in {precision}: {error}") from error


@cache
def _private_folder() -> Path:
    """Return a temporary folder that is removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="gankit-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
