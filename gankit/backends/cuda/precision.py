"""Exact float32 on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from gankit_export.precision import Precision


@contextmanager
def exact_fp32(device: str, precision: Precision) -> Iterator[None]:
    """Convolutions and matrix products in true float32 inside, and as before outside.

    On a GPU torch rounds the inputs of fp32 convolutions to TF32, 11 bits, unless it is set not to. The setting is
    the process's; its older form, ``torch.backends.cudnn.allow_tf32``, cannot be read inside. Does nothing for other
    precisions and on a CPU.

    Args:
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, …
        precision: of the engine.
    """
    operations = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    narrow = [item for item in operations if item.fp32_precision == "tf32"]
    if precision != "fp32" or not device.startswith("cuda"):
        narrow = []
    for item in narrow:
        item.fp32_precision = "ieee"
    try:
        yield
    finally:
        for item in narrow:
            item.fp32_precision = "tf32"
