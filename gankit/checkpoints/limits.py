"""Limit the memory that a weights file may take, before it is loaded."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from gankit.checkpoints.pickles import ZIP
from gankit.errors import CheckpointError
from gankit.memory import available_memory

LARGEST = 4 << 30  # bytes; far above any generator
_PACKED = 16  # times its size that an archive may declare: PyTorch compresses nothing, and others hardly can
_SMALL = 256 << 20  # bytes that are no danger to any machine


def limit() -> int:
    """Return the bytes that the weights of one file may take: half of the available memory, and 4 GiB at most."""
    return min(LARGEST, available_memory() // 2)


def check_declared(path: Path, data: bytes) -> None:
    """Refuse an archive whose directory declares more than may be loaded.

    Args:
        path: for messages.
        data: the whole file, of any format; only zip archives have a directory.

    Raises:
        CheckpointError: the sizes in the directory add up to more than :func:`limit`, or to more than 16 times the size
            of the file, as in an archive that was made to fill the memory.
    """
    if not data.startswith(ZIP):
        return
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            declared = sum(max(0, item.file_size) for item in archive.infolist())
    except Exception:  # damage, which torch.load reports
        return
    allowed = min(limit(), max(_SMALL, _PACKED * len(data)))
    if declared > allowed:
        raise CheckpointError(
            f"{path}: {len(data) / 1e6:.3g} MB unpack to {declared / 1e9:.3g} GB, which is more than the "
            f"{allowed / 1e9:.3g} GB that are allowed here; save the generator's weights alone"
        )


def check_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that take more than :func:`limit` as float32; views of little data may be as large as they like.

    Raises:
        CheckpointError: they do.
    """
    needed, allowed = 4 * sum(value.numel() for value in tensors.values()), limit()
    if needed > allowed:
        raise CheckpointError(
            f"{path}: the weights take {needed / 1e9:.3g} GB in float32, which is more than the {allowed / 1e9:.3g} GB "
            "that are allowed here (half of the free memory, at most 4.29 GB); save the generator's weights alone"
        )
