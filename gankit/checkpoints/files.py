"""A weights file of any format -> its tensors by name. No code in the file is ever run."""

from __future__ import annotations

import hashlib
import json
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from gankit.checkpoints.containers import strip_prefixes, tensors_of, unwrap, without_common
from gankit.checkpoints.directions import file_for, holds_pair, pick
from gankit.checkpoints.kinds import other_kind
from gankit.checkpoints.limits import LARGEST, check_declared, check_tensors
from gankit.checkpoints.pickles import PICKLE, ZIP, load_torch
from gankit.errors import CheckpointError
from gankit.models.facts import Direction

_PLAIN = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Stored:
    """What a weights file holds.

    Attributes:
        tensors: by name, without wrappers and prefixes; dtypes as stored, but for those of 8 bits, which are
            float32; on the CPU.
        metadata: of a safetensors file; empty for other files.
        sha256: of the file, hexadecimal.
        ordered: whether the tensors come in the order of the layers, which a safetensors file does not keep.
        path: of the file that was read, which a direction may have selected; ``None`` for tensors from elsewhere.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    sha256: str = ""
    path: Path | None = None
    ordered: bool = True


def read(path: Path, direction: Direction | None = None) -> Stored:
    """Read a ``.safetensors`` file or a PyTorch one (zip or older pickle), recognised by its content, not by its name.

    Args:
        path: the weights file. PyTorch files are read by ``torch.load(weights_only=True)`` only.
        direction: which generator of a pair to read; for a pair in two files, this file or the one beside it.

    Raises:
        CheckpointError: the file is missing, empty, truncated or no weights file, or loading it would run code.
    """
    data = _bytes(path)
    metadata: dict[str, str] = {}
    found: Mapping[str, object]
    # safetensors first: it begins with the length of its header, whose lowest byte may be the one that begins a pickle
    if _is_safetensors(data) or (path.suffix == ".safetensors" and not data.startswith((ZIP, PICKLE))):
        found, metadata = _read_safetensors(path, data)
    elif data.startswith((ZIP, PICKLE)):
        check_declared(path, data)
        found = load_torch(path, data)
    else:
        what = (
            other_kind(path, data) or "not a weights file (neither safetensors nor PyTorch): give the checkpoint itself"
        )
        raise CheckpointError(f"{path}: {what}")
    found = unwrap(found)
    if not holds_pair(found) and holds_pair(inner := without_common(found)):
        found = inner
    if direction is not None and not holds_pair(found):
        own = file_for(path, direction)
        if own != path:
            return read(own)
    found = pick(path, found, direction if holds_pair(found) else None)
    tensors = strip_prefixes(tensors_of(unwrap(found)))
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors: give a file with the generator's state dict")
    tensors = {name: _plain(path, name, value) for name, value in tensors.items()}
    check_tensors(path, tensors)
    ordered = data.startswith((ZIP, PICKLE)) and not _is_safetensors(data)
    return Stored(tensors, metadata, hashlib.sha256(data).hexdigest(), path, ordered)


def _is_safetensors(data: bytes) -> bool:
    """Whether the file begins with a length and a JSON header of at least that length."""
    return data[8:9] == b"{" and 2 <= int.from_bytes(data[:8], "little") <= len(data) - 8


def _bytes(path: Path) -> bytes:
    """The whole file, so that the checksum is that of the bytes that are used."""
    try:
        status = path.stat()  # once: exists() and its kin return False, or raise, where a folder above it is locked
        if stat.S_ISDIR(status.st_mode):
            raise CheckpointError(f"{path}: is a folder: give the weights file in it")
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{path}: not a regular file: give a weights file")
        if status.st_size == 0:
            raise CheckpointError(f"{path}: empty file: download or copy it again")
        if status.st_size > LARGEST:
            raise CheckpointError(f"{path}: {status.st_size / 1e9:.1f} GB is too large for a generator's weights")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError for a name that no file can have
        raise CheckpointError(f"{path}: no such file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error


def _read_safetensors(path: Path, data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        tensors = load_safetensors(data)
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length]).get("__metadata__") or {}  # the library accepts null
        metadata = {str(key): str(value) for key, value in header.items()}
    except (SafetensorError, struct.error, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: truncated or damaged safetensors file: download or copy it again") from error
    return tensors, metadata


def _plain(path: Path, name: str, value: Tensor) -> Tensor:
    """A tensor that has data and one shape; float8, in which nothing can be computed, becomes float32."""
    if value.is_nested:
        raise CheckpointError(f"{path}: '{name}' is a nested tensor: give plain floating-point weights")
    if value.is_meta:
        raise CheckpointError(f"{path}: '{name}' is a meta tensor, which has no data: save the weights themselves")
    if not value.is_floating_point() or value.dtype in _PLAIN or value.layout != torch.strided:
        return value
    try:
        return value.float()
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"{path}: '{name}' is {value.dtype}: give float32, float16 or bfloat16 weights"
        ) from error
