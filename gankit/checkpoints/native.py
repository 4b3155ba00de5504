"""gankit's own weights files: safetensors with the name and the options of the model in the metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from gankit_export.files import atomic_path
from safetensors.torch import save as to_safetensors
from torch import Tensor

from gankit.checkpoints.layouts import Match
from gankit.errors import CheckpointError, OutputError
from gankit.models.facts import Facts

FORMAT = "gankit"


def save(
    path: Path | str,
    generator_state: Mapping[str, Tensor],
    model: str,
    options: Mapping[str, Any],
    *,
    dtype: torch.dtype = torch.float16,
    metadata: Mapping[str, str] | None = None,
) -> str:
    """Write the weights of a generator. The file appears whole or not at all, and equal weights give equal files.

    Args:
        path: the file to write; an existing one is replaced.
        generator_state: ``generator.state_dict()``, any dtype, device and memory format.
        model: registry name.
        options: the options that build the generator again, ``facts.options``.
        dtype: of kernels and matrices. Tensors with one dimension (normalisations, biases, slopes) stay float32:
            they are tiny, and a running variance can exceed the range of fp16. So does any tensor that would overflow.
        metadata: more entries for the file's header.

    Returns:
        The file's sha256, hexadecimal.

    Raises:
        CheckpointError: a weight is not finite.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    built_by = json.dumps(dict(options), sort_keys=True)
    header = {**(metadata or {}), "format": FORMAT, "model": model, "options": built_by}
    tensors = {
        name: _stored(path, name, value, dtype)
        for name, value in generator_state.items()
        if not name.endswith("num_batches_tracked")  # counts training steps; inference never reads it
    }
    data = _ordered(to_safetensors(tensors, header))
    _write(path, data)
    return hashlib.sha256(data).hexdigest()


def declared(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Match | None:
    """The model and the options in the header of gankit's own file; ``None`` for any other file.

    Raises:
        CheckpointError: the header is gankit's, but damaged.
    """
    if metadata.get("format") != FORMAT:
        return None
    try:
        options = json.loads(metadata["options"])
        model = metadata["model"]
        if not isinstance(options, dict):
            raise TypeError("options must be a table")
    except RecursionError as error:
        raise CheckpointError(f"{path}: damaged header (options): save or download the file again") from error
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged header ({error}): save or download the file again") from error
    return Match(model, options, tensors, "its header")


def input_header(facts: Facts) -> dict[str, str]:
    """What the header of a file says about the input of its generator, for the ``metadata`` of :func:`save`."""
    if facts.input_kind == "image":
        return {}
    return {"input_kind": facts.input_kind, **({"labels": json.dumps(facts.labels)} if facts.labels else {})}


def with_input(path: Path, facts: Facts, metadata: Mapping[str, str]) -> Facts:
    """The facts of a generator with what the header of its file says about its input, see :func:`input_header`.

    Raises:
        CheckpointError: the header is damaged.
    """
    if metadata.get("format") != FORMAT or "input_kind" not in metadata:
        return facts
    try:
        labels = json.loads(metadata.get("labels", "[]"))
        return replace(facts, input_kind=metadata["input_kind"], labels=tuple(labels))  # type: ignore[arg-type]
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged header ({error}): save or download the file again") from error


def _stored(path: Path, name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    value = value.detach().cpu().contiguous()  # training keeps kernels channels_last, which safetensors cannot hold
    if not value.is_floating_point():
        return value.clone()
    if not bool(torch.isfinite(value).all()):
        raise CheckpointError(f"{path}: not saved: '{name}' has NaN or infinite values (the training diverged)")
    if value.ndim < 2:
        return value.float().clone()
    small = value.to(dtype, copy=True)
    return small if bool(torch.isfinite(small).all()) else value.float().clone()


def _ordered(data: bytes) -> bytes:
    """The same safetensors file with sorted metadata: the library writes them in an order that varies between calls."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    text = json.dumps(header | {"__metadata__": dict(sorted(header["__metadata__"].items()))}).encode()
    text += b" " * (-len(text) % 8)  # the tensors stay aligned
    return len(text).to_bytes(8, "little") + text + data[start:]


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
