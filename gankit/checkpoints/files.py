"""A weights file of any format -> its tensors by name. No code in the file is ever run."""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from gankit.checkpoints.directions import file_for, holds_pair, pick
from gankit.errors import CheckpointError
from gankit.models.facts import Direction

_LARGEST = 4 << 30  # bytes; far above any generator, and the file is read into memory
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_WRAPPERS = ("params_ema", "ema_state_dict", "g_ema", "params", "state_dict", "generator", "model", "net", "weights")
_PREFIXES = ("module.", "_orig_mod.", "netG.", "generator.")
_STATE_DICT_ONLY = "save its weights only: torch.save(module.state_dict(), FILE)"


@dataclass(frozen=True)
class Stored:
    """What a weights file holds.

    Attributes:
        tensors: by name, without wrappers and prefixes; dtypes as stored; on the CPU.
        metadata: of a safetensors file; empty for other files.
        sha256: of the file, hexadecimal.
        path: of the file that was read, which a direction may have selected; ``None`` for tensors from elsewhere.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    sha256: str = ""
    path: Path | None = None


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
    if _is_safetensors(data) or (path.suffix == ".safetensors" and not data.startswith((_ZIP, _PICKLE))):
        found, metadata = _read_safetensors(path, data)
    elif data.startswith((_ZIP, _PICKLE)):
        found = _read_torch(path, data)
    else:
        raise CheckpointError(
            f"{path}: not a weights file (neither safetensors nor PyTorch): give the checkpoint itself"
        )
    found = unwrap(found)
    if direction is not None and not holds_pair(found):
        own = file_for(path, direction)
        if own != path:
            return read(own)
    found = pick(path, found, direction if holds_pair(found) else None)
    tensors = strip_prefixes({name: value for name, value in unwrap(found).items() if isinstance(value, Tensor)})
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors: give a file with the generator's state dict")
    return Stored(tensors, metadata, hashlib.sha256(data).hexdigest(), path)


def _is_safetensors(data: bytes) -> bool:
    """Whether the file begins with a length and a JSON header of at least that length."""
    return data[8:9] == b"{" and 2 <= int.from_bytes(data[:8], "little") <= len(data) - 8


def unwrap(found: Mapping[str, object]) -> Mapping[str, object]:
    """The state dict inside the dictionaries that training scripts wrap around it; averaged weights are preferred."""
    for _ in range(4):
        inner = next((found[key] for key in _WRAPPERS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            break
        found = inner  # type: ignore[assignment]
    return found


def strip_prefixes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes that wrappers (DataParallel, torch.compile, a GAN of two networks) add to the names.

    Where only some names have the prefix of a generator, the others belong to other networks and are dropped.
    """
    tensors = dict(tensors)
    changed = True
    while changed:
        changed = False
        for prefix in _PREFIXES:
            inner = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            if inner and (len(inner) == len(tensors) or prefix in ("netG.", "generator.")):
                tensors, changed = inner, True
    return tensors


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
        if status.st_size > _LARGEST:
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
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    except (SafetensorError, struct.error, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: truncated or damaged safetensors file: download or copy it again") from error
    return tensors, metadata


def _read_torch(path: Path, data: bytes) -> Mapping[str, object]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old storage classes; the user can do nothing about them
            found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a broken pickle or zip makes torch raise errors of many types
        raise CheckpointError(f"{path}: {_why(str(error))}") from error
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{path}: holds a {type(found).__name__}, not a state dict: {_STATE_DICT_ONLY}")
    return {str(key): value for key, value in found.items()}


def _why(message: str) -> str:
    """The error of ``torch.load``, which has many lines, in one."""
    if "TorchScript" in message:
        return f"a TorchScript archive, which holds code, not weights: {_STATE_DICT_ONLY}"
    named = re.search(r"GLOBAL ([\w.]+)", message)
    if named is None:
        if "Unsupported" in message or "not allowed" in message:
            return f"refused, because loading it would run code: {_STATE_DICT_ONLY}"
        return "truncated or damaged: download or copy it again"
    what = named.group(1)
    if what.startswith("torch.nn.") or (what.rpartition(".")[2][:1].isupper() and "blocked" not in message):
        return f"holds a pickled object ({what}), which only its own code can load: {_STATE_DICT_ONLY}"
    return f"refused, because loading it would run code ({what}): {_STATE_DICT_ONLY}"
