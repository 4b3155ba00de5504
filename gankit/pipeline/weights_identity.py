"""The identity of a pipeline's weights, found without loading them. Imports no torch."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path

from gankit.pipeline.journal import sha256_of
from gankit.pipeline.source import ModelSource
from gankit.weights import TRAINED


def weights_sha256(source: ModelSource) -> str | None:
    """Return the sha256 of the weights file, hexadecimal; ``None`` if only loading the model can tell.

    With a direction, it covers both files of a pair, because the direction may select either.
    """
    if not isinstance(source.model, str | Path):
        return None
    path = Path(source.model)
    if isinstance(source.model, str) and source.model in TRAINED:
        path = Path(str(files("gankit.weights"))) / f"{TRAINED[source.model].file or source.model}.safetensors"
    digest = sha256_of(path)
    if not digest or source.direction is None:
        return digest or None
    pair = [path.with_name(path.name.replace(old, new)) for old, new in (("_G_A", "_G_B"), ("_G_B", "_G_A"))]
    both = sorted({digest, *(sha256_of(other) for other in pair)} - {""})
    return digest if len(both) == 1 else hashlib.sha256("".join(both).encode()).hexdigest()
