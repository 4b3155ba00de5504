"""The identity of a module: a hash that two modules share only if they give the same images."""

from __future__ import annotations

import hashlib
import inspect
from contextlib import suppress

import torch
from gankit_export.rewrites import trace
from torch import nn


def module_sha256(module: nn.Module) -> str:
    """Sha256 of a module: its structure, the code of its classes, and every parameter and buffer.

    What a forward pass calls outside of its own classes counts as far as ``torch.fx`` can trace it.

    Args:
        module: of gankit, or a user's own.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(repr(module).encode())
    kinds = {type(item) for item in module.modules()}
    for kind in sorted(kinds, key=lambda kind: (kind.__module__, kind.__qualname__)):
        digest.update(f"{kind.__module__}.{kind.__qualname__}".encode())
        if not kind.__module__.startswith(("torch.", "gankit.")):
            with suppress(OSError, TypeError):  # made in a session without source
                digest.update(inspect.getsource(kind).encode())
    try:
        digest.update(trace(module).code.encode())
    except ValueError:  # no graph: the plain settings of its layers stand in for what a trace would show
        for name, item in module.named_modules():
            plain = {key: value for key, value in vars(item).items() if isinstance(value, int | float | str | tuple)}
            digest.update(f"{name} {sorted(plain.items())}".encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
