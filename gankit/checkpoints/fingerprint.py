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

    What a forward pass of somebody else's classes calls outside of them counts as far as ``torch.fx`` can trace it. The
    code of gankit and torch does not count: whoever keeps files by this hash adds their versions.

    Args:
        module: of gankit, or a user's own.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(repr(module).encode())
    kinds = {type(item) for item in module.modules()}
    foreign = [kind for kind in kinds if not kind.__module__.startswith(("torch.", "gankit."))]
    for kind in sorted(kinds, key=lambda kind: (kind.__module__, kind.__qualname__)):
        digest.update(f"{kind.__module__}.{kind.__qualname__}".encode())
        if kind in foreign:
            with suppress(OSError, TypeError):  # made in a session without source
                digest.update(inspect.getsource(kind).encode())
    if foreign:  # tracing takes a second of a deep network
        with suppress(ValueError):  # it has no graph
            digest.update(trace(module).code.encode())
    for name, item in module.named_modules():
        plain = {key: value for key, value in vars(item).items() if isinstance(value, int | float | str | tuple)}
        digest.update(f"{name} {sorted(plain.items())}".encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
