"""The ONNX files that engines are made from, kept between runs."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import torch
from platformdirs import user_cache_path

from gankit import __version__
from gankit.backends.base import Request


def cache_folder() -> Path:
    """Where gankit keeps what it can make again: ``$GANKIT_CACHE``, else the user's cache folder."""
    chosen = os.environ.get("GANKIT_CACHE")
    return Path(chosen) if chosen else user_cache_path("gankit", appauthor=False)


def fingerprint(request: Request) -> str:
    """What an artefact depends on, as 32 hexadecimal digits: every weight, the graph's facts, the versions."""
    digest = hashlib.sha256()
    facts = {"name": request.facts.name, "options": dict(request.facts.options), "torch": torch.__version__}
    digest.update(json.dumps({**facts, "gankit": __version__}, sort_keys=True, default=str).encode())
    for name, value in sorted(request.generator.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def onnx_file(request: Request) -> Path:
    """The generator after its exact rewrites as ONNX, fp32, dynamic sizes; exported once, then found.

    A cache that cannot be written is no reason to stop: the file then lives in a temporary folder of this process.
    """
    from gankit_export.onnx import export_onnx
    from gankit_export.rewrites import for_inference

    path = cache_folder() / "onnx" / f"{request.facts.name}-{fingerprint(request)}.onnx"
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writable = os.access(path.parent, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        path = _private_folder() / path.name
    export_onnx(
        for_inference(request.generator), path, channels=request.facts.channels, multiple=request.facts.multiple
    )
    return path


def _private_folder() -> Path:
    import atexit
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="gankit-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
