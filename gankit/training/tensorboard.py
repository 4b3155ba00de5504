"""The log of a run for TensorBoard, which is imported only where it is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from gankit.errors import GankitError


class Board:
    """Writes what ``log.csv`` gets, and the sample grids, to ``tensorboard/`` below the folder of a run.

    Args:
        folder: of the run.
        step: the steps done: what an earlier process wrote beyond them is not shown.

    Raises:
        GankitError: TensorBoard is not installed, or cannot be imported.
    """

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except Exception as error:  # broken protobuf or TensorFlow builds raise all kinds
            raise GankitError(
                f"TensorBoard cannot be used ({type(error).__name__}): pip install tensorboard, or omit "
                "--tensorboard; log.csv has the same numbers"
            ) from error
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, rows: Iterable[tuple[int, str, float]]) -> None:
        """Numbers by step and name."""
        for step, name, value in rows:
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def show(self, pixels: np.ndarray, step: int) -> None:
        """A sample grid, (H, W, 3) uint8."""
        self._writer.add_image("sample_grid", pixels, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
