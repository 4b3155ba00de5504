"""True float32 arithmetic on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from gankit_export.precisions import Precision


@contextmanager
def exact_fp32(device: str, precision: Precision) -> Iterator[None]:
    """Run convolutions and matrix products in true float32 inside the context.

    By default torch rounds the inputs of fp32 convolutions on a GPU to TF32, which has 11 bits. The setting belongs to
    the process; its older form, ``torch.backends.cudnn.allow_tf32``, cannot be read inside the context. For other
    precisions and on a CPU, the context does nothing.

    Args:
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, …
        precision: precision of the engine.
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
