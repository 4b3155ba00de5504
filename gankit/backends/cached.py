"""The files that gankit keeps between runs: exported models, TensorRT engines, choices and records of models.

A file's modification time is the time of its last use, because many file systems do not record accesses.
"""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from gankit.errors import OutputError, UsageError, hint
from gankit.paths import cache_folder

Kind = Literal[
    "onnx",
    "int8",
    "refusal",
    "tensorrt",
    "onnxruntime-tensorrt",
    "aoti",
    "ncnn",
    "winograd",
    "inductor",
    "timings",
    "choice",
    "model",
    "mixed",
]
_PATTERNS: dict[Kind, str] = {
    "onnx": "onnx/*.onnx",
    "int8": "int8/*.onnx",
    "refusal": "int8/*[0-9a-f].json",
    "tensorrt": "tensorrt/*.engine",
    "onnxruntime-tensorrt": "onnxruntime-tensorrt/*.engine",
    "aoti": "aoti/*.pt2",
    "ncnn": "ncnn/*.param",
    "winograd": "winograd/*.o",
    "inductor": "inductor/*",
    "timings": "tensorrt/timings-*.bin",
    "choice": "choices/*.json",
    "model": "models/*.json",
    "mixed": "mixed/*/*.safetensors",
}
_BUILT: dict[Kind, tuple[str, ...]] = {"aoti": (".pt2",), "ncnn": (".param", ".bin"), "winograd": (".o",)}
"""Suffixes of the files that backends build, and of those that belong to them."""


@dataclass(frozen=True)
class CachedFile:
    """A file in the cache, or a folder of files that belong together.

    Attributes:
        path: the file or the folder.
        kind: ``"onnx"`` for an exported model, ``"int8"`` for one in int8, ``"refusal"`` for the figures of
            one that int8 would spoil, ``"tensorrt"`` for an engine,
            ``"onnxruntime-tensorrt"`` for one of ONNX Runtime's TensorRT provider, ``"aoti"`` and ``"ncnn"`` for
            models that those backends built, ``"winograd"`` for the machine code of a kernel of that backend,
            ``"inductor"`` for the folder with the code that torch's compiler made in
            one version of torch, ``"timings"`` for what TensorRT measured while it built engines,
            ``"choice"`` for a choice of ``--backend auto``, ``"model"`` for the record of what a weights file is,
            ``"mixed"`` for weights between two models (``--strength``).
        size: bytes, with the files that belong to it.
        used: time of the last use in seconds since 1970.
    """

    path: Path
    kind: Kind
    size: int
    used: float

    @property
    def model(self) -> str:
        """Name of the model; empty if the file belongs to none."""
        if self.kind == "mixed":
            return self.path.stem
        if self.kind == "winograd" or self.kind not in ("onnx", "int8", "refusal", "tensorrt", *_BUILT):
            return ""
        digests = {"tensorrt": 1, "int8": 3}.get(self.kind, 2)
        return self.path.stem.rsplit("-", digests)[0]

    def problem(self) -> str | None:
        """Return what is wrong with the content; ``None`` if it is the one that gankit wrote."""
        if self.kind in ("onnx", "int8"):
            from gankit.backends.artefacts import is_intact

            return None if is_intact(self.path) else "has changed since gankit wrote it"
        if self.kind == "tensorrt":
            from gankit_export.tensorrt.store import verify

            return verify(self.path)
        if self.kind == "onnxruntime-tensorrt":
            from gankit.backends.onnx_runtime_tensorrt_cache import is_intact as is_engine

            return None if is_engine(self.path) else "has changed since gankit proved it"
        if self.kind in _BUILT:
            from gankit.backends.built_files import is_built_intact

            return None if is_built_intact(self.path, _BUILT[self.kind]) else "has changed since gankit wrote it"
        if self.kind == "model":
            from gankit.checkpoints.known import is_intact as is_record

            return None if is_record(self.path) else "is damaged"
        if self.kind == "mixed":
            from gankit.checkpoints.strength import is_intact as is_mixture

            return None if is_mixture(self.path) else "has changed since gankit wrote it"
        if self.kind in ("choice", "refusal"):
            try:
                json.loads(self.path.read_bytes())
            except (OSError, ValueError, RecursionError):
                return "is damaged"
        return None  # TensorRT checks its timings itself, and torch's compiler finds its code by its content

    def delete(self) -> None:
        """Delete the file and its manifest.

        Raises:
            OutputError: If they cannot be deleted.
        """
        try:
            if self.kind == "inductor":
                shutil.rmtree(self.path)
                return
            for path in (self.path, *_beside(self.kind, self.path)):
                path.unlink(missing_ok=True)
            if self.kind == "mixed":
                self.path.parent.rmdir()
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be deleted ({error.strerror}); delete it yourself") from error


def cached_files() -> list[CachedFile]:
    """List the files in the cache, those that were used last first."""
    return sorted(_found(), key=lambda item: item.used, reverse=True)


def chosen(names: Sequence[str]) -> list[CachedFile]:
    """Return the files of some models, or with some file names.

    Args:
        names: names of models, file names, or patterns such as ``"srgan-*"``.

    Raises:
        UsageError: If a name fits no file.
    """
    every = cached_files()
    result: dict[Path, CachedFile] = {}
    for name in names:
        found = [item for item in every if item.model == name or fnmatchcase(item.path.name, name)]
        if not found:
            known = sorted({item.model for item in every if item.model})
            reason = hint(name, known) if known else "the cache holds no models"
            raise UsageError(f"the cache has no file of '{name}': {reason}")
        result |= {item.path: item for item in found}
    return list(result.values())


def beyond(most: int) -> list[CachedFile]:
    """Return the files to delete so that the rest needs at most ``most`` bytes: those whose last use is longest ago."""
    kept = cached_files()
    total, left = sum(item.size for item in kept), []
    while total > most and kept:
        left.append(kept.pop())
        total -= left[-1].size
    return left


def _found() -> Iterator[CachedFile]:
    folder = cache_folder()
    for kind, pattern in _PATTERNS.items():
        for path in folder.glob(pattern):
            with suppress(OSError):  # another process has just deleted it
                if kind == "inductor":
                    yield _folder(path)
                    continue
                facts = path.stat()
                size = facts.st_size + sum(item.stat().st_size for item in _beside(kind, path) if item.exists())
                yield CachedFile(path, kind, size, facts.st_mtime)


def _folder(path: Path) -> CachedFile:
    """Return the folder of torch's compiler, with the size of its files and the time of the newest one."""
    found = [path.stat()]
    for item in path.rglob("*"):
        with suppress(OSError):
            found.append(item.stat())
    size = sum(facts.st_size for facts in found if stat.S_ISREG(facts.st_mode))
    return CachedFile(path, "inductor", size, max(facts.st_mtime for facts in found))


def _beside(kind: Kind, path: Path) -> list[Path]:
    """List the files that belong to a file, which may be missing: its manifest, or the weights of an ncnn model."""
    return [path.with_name(path.name + ".json"), *(path.with_suffix(item) for item in _BUILT.get(kind, ())[1:])]
