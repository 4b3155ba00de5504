"""The int8 files in the cache. They are made from images by :mod:`gankit.pipeline.int8_files`; backends only run them.

The name of a file consists of the model, what the file depends on, its calibration images and the sha256 of its
content, which is checked before every use. Importing this module imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gankit_export.files import atomic_path

from gankit.backends.artefacts import is_intact, sha256_in_name
from gankit.backends.cpu.instructions import processor
from gankit.errors import BackendError
from gankit.paths import cache_folder
from gankit.version import __version__, installed_version, sources

if TYPE_CHECKING:
    from gankit.backends.base import EngineSpec
    from gankit.checkpoints.types import Loaded

_PACKAGES = ("torch", "onnx", "onnxscript", "nncf", "openvino")
_DIGITS = 32


def folder() -> Path:
    """Return the folder of the int8 files."""
    return cache_folder() / "int8"


def stem(loaded: Loaded) -> str:
    """Return the name of the int8 files of a model, without their calibration and their content.

    It depends on the weights, the facts, the versions, the code and the processor: without VNNI instructions, int8
    products saturate, so that another estimator or other layers in fp32 may be needed.
    """
    name, flags = processor()
    facts = {"sha256": loaded.sha256, "facts": repr(loaded.facts), "processor": [name, sorted(flags)]}
    made_by = {package: installed_version(package) for package in _PACKAGES} | {"gankit": __version__}
    code = sources("gankit_export", "gankit.models")
    text = json.dumps([facts, made_by, code], sort_keys=True, default=str)
    model = re.sub(r"[^A-Za-z0-9._-]", "_", loaded.facts.name)[:60]
    return f"{model}-{hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]}"


def look_up(name: str, calibration: str = "", notify: Callable[[str], None] | None = None) -> str | None:
    """Return the sha256 of an int8 file in the cache that is intact; ``None`` if there is none.

    Args:
        name: result of :func:`stem`.
        calibration: digest of its images; empty for the file that was used last, whatever its images.
        notify: called with a line for each file that has changed on disk. It is deleted.
    """
    found: list[Path] = []
    with suppress(OSError):
        every = folder().glob(f"{name}-{calibration or '[0-9a-f]' * _DIGITS}-{'[0-9a-f]' * 64}.onnx")
        found = sorted(every, key=lambda path: path.stat().st_mtime, reverse=True)
    return next((sha256_in_name(path) for path in _intact(found, notify)), None)


def quantised_file(spec: EngineSpec) -> Path:
    """Return the int8 file that a spec names.

    Raises:
        BackendError: If it is not in the cache, or has changed there.
    """
    found = sorted(folder().glob(f"*-{spec.quantised}.onnx"))
    path = next(_intact(found, spec.notify), None)
    if path is None:
        raise BackendError(f"the int8 file of '{spec.facts.name}' is not in the cache; run with --precision int8 again")
    return path


def refusal(name: str, calibration: str) -> str | None:
    """Return why an earlier run found that a model cannot be quantised; ``None`` if none did.

    Args:
        name: result of :func:`stem`.
        calibration: digest of the calibration images.
    """
    path = _refusal_path(name, calibration)
    try:
        said = json.loads(path.read_bytes())["refused"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    with suppress(OSError):
        os.utime(path)
    return said if isinstance(said, str) else None


def store_refusal(name: str, calibration: str, reason: str) -> None:
    """Keep why a model cannot be quantised, so that the next run does not search for minutes again.

    Args:
        name: result of :func:`stem`.
        calibration: digest of the calibration images.
        reason: the figures.
    """
    with suppress(OSError), atomic_path(_refusal_path(name, calibration)) as draft:  # the search can be repeated
        draft.write_text(json.dumps({"refused": reason}))


def _refusal_path(name: str, calibration: str) -> Path:
    return folder() / f"{name}-{calibration}.json"


def digest_of(images: list[bytes]) -> str:
    """Return the digest of calibration images for the name of a file; of none for those that ship with gankit."""
    digest = hashlib.sha256()
    for content in images:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:_DIGITS]


def _intact(paths: list[Path], notify: Callable[[str], None] | None) -> Iterator[Path]:
    for path in paths:
        if is_intact(path):
            with suppress(OSError):
                os.utime(path)  # the time of the last use, which `gankit cache` shows
            yield path
            continue
        for each in (path, path.with_name(path.name + ".json")):
            with suppress(OSError):
                each.unlink()
        if notify is not None:
            notify(f"{path}: this cached file has changed since gankit wrote it, and was deleted")
