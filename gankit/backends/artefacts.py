"""The ONNX files from which engines are made, cached between runs."""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch

from gankit.backends.base import EngineSpec
from gankit.checkpoints.fingerprint import module_sha256
from gankit.errors import BackendError
from gankit.paths import cache_folder
from gankit.version import __version__

T = TypeVar("T")


@cache
def sources(*packages: str) -> str:
    """Return the sha256 of the Python files of some packages, which changes with the code even between releases."""
    digest = hashlib.sha256()
    for package in packages:
        spec = find_spec(package)
        for folder in spec.submodule_search_locations or () if spec else ():
            for path in sorted(Path(folder).rglob("*.py")):
                digest.update(path.relative_to(folder).as_posix().encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def fingerprint(spec: EngineSpec) -> str:
    """Return 32 hexadecimal digits that depend on everything in an artefact: weights, facts, versions and code.

    The opset is part of the code (``gankit_export.onnx``).
    """
    digest = hashlib.sha256()
    facts = {"name": spec.facts.name, "options": dict(spec.facts.options), "torch": torch.__version__}
    made_by: dict[str, Any] = {"onnx": _version("onnx"), "onnxscript": _version("onnxscript"), "gankit": __version__}
    made_by["code"] = sources("gankit_export", "gankit.models")
    made_by["module"] = module_sha256(spec.generator)
    digest.update(json.dumps({**facts, **made_by}, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:32]


def open_onnx(spec: EngineSpec, open_file: Callable[[Path], T]) -> T:
    """Open the generator's ONNX file: fp32, with dynamic sizes, after the exact rewrites.

    The file is exported once and cached. A cached file that cannot be opened is exported once more. If the cache cannot
    be written, the file goes to a temporary folder of this process.

    Args:
        spec: the generator.
        open_file: opens the file, and raises any exception if the file is damaged.

    Returns:
        What ``open_file`` returns.

    Raises:
        BackendError: If the generator cannot be exported or the file cannot be written anywhere.
    """
    path = _cached(spec)
    with suppress(OSError):
        if path.is_file():
            try:
                return open_file(path)
            except (ImportError, MemoryError):
                raise  # not the file's fault
            except Exception:  # the file is damaged or unreadable; each runtime has its own errors
                with suppress(OSError):
                    path.unlink()
    return open_file(_exported(spec))


def _cached(spec: EngineSpec) -> Path:
    return cache_folder() / "onnx" / f"{spec.facts.name}-{fingerprint(spec)}.onnx"


def _exported(spec: EngineSpec) -> Path:
    """Export the file to the cache. If that fails, export it to the temporary folder, unless it exists there."""
    path = _cached(spec)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass  # find out before the export, which takes seconds
        _export(spec, path)
    except OSError as error:
        try:
            path = _private_folder() / path.name
            if not path.is_file():
                _export(spec, path)
        except OSError:
            why = f"cannot be written ({error.strerror}); set GANKIT_CACHE to a folder with free space"
            raise BackendError(f"{path.parent}: the exported model {why}") from error
    return path


def _export(spec: EngineSpec, path: Path) -> None:
    from gankit_export.latent import export_latent_onnx
    from gankit_export.onnx import ExportError, export_onnx
    from gankit_export.rewrites import for_inference

    facts = spec.facts
    try:
        if facts.task == "generate":
            export_latent_onnx(spec.generator, path, latent=facts.latent, classes=facts.classes)
            return
        export_onnx(for_inference(spec.generator), path, channels=facts.channels, multiple=facts.multiple)
    except ExportError as error:
        raise BackendError(f"'{facts.name}': {error}") from error


@cache
def _private_folder() -> Path:
    """Return a temporary folder that is removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="gankit-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
