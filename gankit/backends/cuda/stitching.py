"""Tiles that are cut from an image and stitched to its result on a GPU.

The image is copied to the GPU once, without the halos that tiles share, and of the results only the pixels that are
kept come back, in strips, while the tiles below are computed. Each tile writes its part of the result directly. The
kernel ``blend_tiles`` would take the mean where tiles overlap, and the pixels of a halo are not those of the image.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gankit.backends.memory import free_memory, is_out_of_memory
from gankit.backends.modules import not_finite
from gankit.backends.pieces import Move, Piece, Pieces

if TYPE_CHECKING:
    from gankit.backends.cuda.engine import CudaEngine
    from gankit.backends.cuda.streams import Event

_SHARE = 4  # of the free memory that image and result may take together, as its denominator


def fits(engine: CudaEngine, image: Tensor, cut: Pieces) -> bool:
    """Whether an image and its result fit into the memory of the GPU, beside the tiles."""
    result = image.nbytes // image.shape[1] * cut.channels * cut.scale**2
    return _SHARE * (image.nbytes + result) <= free_memory(engine.device)


def stitched(engine: CudaEngine, image: Tensor, cut: Pieces) -> Tensor:
    """Run the tiles of an image, and stitch them on the GPU.

    Args:
        engine: the engine.
        image: (1, C, H, W) on the CPU.
        cut: how it is cut.

    Returns:
        (1, C', scale·H, scale·W) in pinned memory, in the dtype of the image and channels_last.

    Raises:
        NotFiniteError: If fp16 produced values that are not finite.
        RuntimeError: If memory runs out.
    """
    run = _Stitching(engine, image, cut)
    try:
        return run.result()
    except BaseException as error:
        with engine.cuda.lock:
            engine.cuda.synchronize()  # the GPU may still use tensors that end here
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            engine.drop()
        raise


class _Stitching:
    """One image on its way over the GPU."""

    def __init__(self, engine: CudaEngine, image: Tensor, cut: Pieces) -> None:
        self._engine, self._cuda, self._cut = engine, engine.cuda, cut
        self._staged = engine.staged(image)
        height, width = (side * cut.scale for side in image.shape[2:])
        self._shape = (1, cut.channels, height, width)
        self._host = self._cuda.pinned.empty(self._shape, image.dtype, channels_last=True)
        self._finite: list[Tensor] = []
        self._flying: deque[tuple[Event, float, Sequence[Tensor]]] = deque()
        self._copied = 0  # rows of the result whose copy to the host is queued

    def result(self) -> Tensor:
        """Run all groups of tiles, and wait for the result."""
        cuda, cut = self._cuda, self._cut
        with cuda.lock:
            given = cuda.upload(self._staged, "into")
            cuda.wait("compute", cuda.record("into"))
            canvas = cuda.empty(self._shape, self._host.dtype)
        for first in range(0, len(cut.pieces), cut.batch):
            group = cut.pieces[first : first + cut.batch]
            rest = cut.pieces[first + cut.batch :]
            with cuda.lock:
                held = self._queue(given, canvas, group, min((piece.rows[0] for piece in rest), default=None))
                self._flying.append((cuda.record("out"), (first + len(group)) / len(cut.pieces), held))
            if len(self._flying) > self._engine.depth:
                self._land()
        while self._flying:
            self._land()
        if not all(bool(item) for item in self._finite):
            raise not_finite()
        return self._host

    def _queue(self, given: Tensor, canvas: Tensor, group: Sequence[Piece], next_row: int | None) -> list[Tensor]:
        """Queue the tiles of one call, their places in the result, and the copy of the rows that are complete.

        Returns:
            The tensors that the GPU needs until then.
        """
        cuda, engine, scale = self._cuda, self._engine, self._cut.scale
        (stack,) = cuda.call(partial(_gathered, tuple(group), self._cut.tile), (given,))
        made = engine.compute((stack,))
        cuda.paste(canvas, made[0], [Move.of(index, piece, scale) for index, piece in enumerate(group)])
        held = [given, canvas, stack, *made]
        cuda.wait("out", cuda.record("compute"))
        for flag in made[1:]:
            self._finite.append(cuda.pinned.empty(flag.shape, flag.dtype, channels_last=False))
            cuda.download(flag, self._finite[-1], "out")
        complete = self._shape[2] if next_row is None else next_row * scale
        if complete > self._copied:
            source, target = (item[:, :, self._copied : complete] for item in (canvas, self._host))
            cuda.download(source, target, "out")
            held += [source, target]
            self._copied = complete
        engine.learn((stack,))
        return held

    def _land(self) -> None:
        """Wait for the oldest call, and report how much is done."""
        event, part, _ = self._flying.popleft()
        event.synchronize()
        if self._cut.progress is not None:
            self._cut.progress(part)


def _gathered(group: Sequence[Piece], tile: tuple[int, int], image: Tensor) -> tuple[Tensor]:
    """The tiles of an image as one batch, channels_last."""
    tall, wide = tile
    parts = [image[0, :, piece.top : piece.top + tall, piece.left : piece.left + wide] for piece in group]
    return (torch.stack([part.permute(1, 2, 0) for part in parts]).permute(0, 3, 1, 2),)
