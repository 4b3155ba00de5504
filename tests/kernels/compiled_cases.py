"""The launches whose compiled code is checked: shapes of CycleGAN, SRGAN, AnimeGAN and of images, never filled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

HALF, BF16, FULL = torch.float16, torch.bfloat16, torch.float32


@dataclass(frozen=True)
class Case:
    """One launch, and the memory accesses that its kernels must have.

    Attributes:
        run: Launches the kernels.
        loads: Bytes of the last kernel's widest load, at least.
        stores: Bytes of its widest store, at least.
        first: First architecture to compile for; bfloat16 arithmetic begins with 80.
    """

    run: Callable[[], Any]
    loads: int = 16
    stores: int = 16
    first: int = 75


def _empty(shape: tuple[int, ...], dtype: torch.dtype, *, last: bool) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, memory_format=torch.channels_last if last else torch.contiguous_format)


def _norm(shape, dtype=HALF, *, last=False, residual="", pad=0, activation="relu", whole=False, once=False):
    def run() -> None:
        from gankit_kernels.instance_norm import NormSpec
        from gankit_kernels.on_cuda.instance_norm import InstanceNormConfig, launch

        x, other = _empty(shape, dtype, last=last), None
        if residual == "padded":
            bordered = (*shape[:2], shape[2] + 2, shape[3] + 2)
            other = _empty(bordered, dtype, last=last)[:, :, 1:-1, 1:-1]
        elif residual:
            other = _empty(shape, dtype, last=last)
        affine = torch.empty(shape[1]), torch.empty(shape[1])
        config = InstanceNormConfig.alone_pixels(shape, dtype.itemsize, 132) if once else None
        launch(x, *affine, other, NormSpec(activation, 0.2, pad, whole=whole), config)

    return run


def _shuffle(shape, r, dtype=HALF, *, last=False, dcr=False):
    def run() -> None:
        from gankit_kernels.on_cuda.pixel_shuffle import launch
        from gankit_kernels.pixel_shuffle import ShuffleSpec

        x = _empty(shape, dtype, last=last)
        launch(x, torch.empty(shape[1]), torch.empty(shape[1] // r**2), ShuffleSpec(r, dcr=dcr))

    return run


def _epilogue(shape, dtype=HALF, *, last=False, slopes=0, residual="", pads=(0, 0, 0, 0), activation="none", first=0):
    """``first`` channels of a wider image if it is not 0."""

    def run() -> None:
        from gankit_kernels.on_cuda.epilogue import launch, launch_in_place
        from gankit_kernels.specs import EpilogueSpec

        x, other = _empty(shape, dtype, last=last), None
        if residual == "padded":
            bordered = (*shape[:2], shape[2] + 2, shape[3] + 2)
            other = _empty(bordered, dtype, last=last)[:, :, 1:-1, 1:-1]
        elif residual:
            other = _empty(shape, dtype, last=last)
        x = x[:, :first] if first else x
        bias, prelu = torch.empty(x.shape[1]), torch.empty(slopes) if slopes else None
        spec = EpilogueSpec(activation, 0.2, 0.2, pads=pads)
        (launch if any(pads) or first else launch_in_place)(x, bias, prelu, other, spec)

    return run


def _spread(shape, widths, first, dtype=HALF, *, residual=False, own=False):
    def run() -> None:
        from gankit_kernels.on_cuda.spread import launch
        from gankit_kernels.specs import SpreadSpec

        x = _empty(shape, dtype, last=True)
        targets = [_empty((shape[0], wide, *shape[2:]), dtype, last=True) for wide in widths]
        other = _empty(shape, dtype, last=True) if residual else None
        spec = SpreadSpec("none" if residual else "leaky_relu", 0.2, first=first)
        launch(x, torch.empty(shape[1]), None, other, x if own else None, targets, spec)

    return run


def _from(dtype, *, last, channels=3, pixels=torch.uint8):
    def run() -> None:
        from gankit_kernels.on_cuda.pixels import launch_from
        from gankit_kernels.pixels import ValuesSpec

        launch_from(torch.empty((1, 1080, 1920, channels), dtype=pixels), ValuesSpec(-1.0, 1.0, dtype, last))

    return run


def _to(dtype, *, last, channels=3, pixels=torch.uint8):
    def run() -> None:
        from gankit_kernels.on_cuda.pixels import launch_to
        from gankit_kernels.pixels import PixelsSpec

        launch_to(_empty((1, channels, 1080, 1920), dtype, last=last), PixelsSpec(-1.0, 1.0, pixels))

    return run


def _blend() -> None:
    from gankit_kernels.blend import BlendSpec
    from gankit_kernels.on_cuda.blend import launch

    launch(torch.empty((6, 3, 256, 256), dtype=HALF), BlendSpec((0, 224), (0, 224, 448), 480, 704, 32))


CASES = {
    "norm planes 64x64 fp16 + residual": Case(_norm((8, 256, 64, 64), residual="same")),
    "norm planes 128x128 fp16": Case(_norm((8, 128, 128, 128))),
    "norm planes 128x128 fp32": Case(_norm((8, 128, 128, 128), FULL)),
    "norm planes 256x256 fp16 + residual": Case(_norm((1, 64, 256, 256), residual="same")),
    "norm planes 256x256 fp32 tanh": Case(_norm((1, 64, 256, 256), FULL, activation="tanh")),
    "norm planes 255x257 fp16": Case(_norm((1, 64, 255, 257)), loads=2, stores=2),
    "norm planes 8x64x256x256 fp16 + residual": Case(_norm((8, 64, 256, 256), residual="same")),
    "norm planes 8x64x256x256 fp32, border 1": Case(_norm((8, 64, 256, 256), FULL, pad=1), stores=4),
    "norm planes 1080x1920 fp16, border 1": Case(_norm((1, 64, 1080, 1920), pad=1), loads=2, stores=2),
    "norm planes 16x16 fp16": Case(_norm((8, 512, 16, 16))),
    "norm planes 64x64 fp16, border 1": Case(_norm((8, 256, 64, 64), pad=1), stores=2),
    "norm channels_last 64x64 fp16 + residual": Case(_norm((8, 256, 64, 64), last=True, residual="same")),
    "norm channels_last 64x64 bf16 + residual": Case(
        _norm((8, 256, 64, 64), BF16, last=True, residual="same"), first=80
    ),
    "norm channels_last 256x256 fp32": Case(_norm((1, 64, 256, 256), FULL, last=True)),
    "norm channels_last 1080x1920 fp16": Case(_norm((1, 64, 1080, 1920), last=True)),
    "norm channels_last 64x64 fp16 + residual, border 1": Case(
        _norm((8, 256, 64, 64), last=True, pad=1, residual="padded")
    ),
    "norm channels_last 64x64 fp16, one launch": Case(_norm((8, 256, 64, 64), last=True, once=True)),
    "norm channels_last 64x64 bf16 + residual, one launch": Case(
        _norm((8, 256, 64, 64), BF16, last=True, residual="same", once=True), first=80
    ),
    "norm channels_last 64x64 fp32 leaky_relu, one launch": Case(
        _norm((8, 256, 64, 64), FULL, last=True, activation="leaky_relu", once=True)
    ),
    "norm channels_last 64x64 fp16 + residual, border 1, one launch": Case(
        _norm((8, 256, 64, 64), last=True, pad=1, residual="padded", once=True)
    ),
    "norm channels_last 16x16 fp16": Case(_norm((8, 512, 16, 16), last=True)),
    "one group channels_last 256x256 fp16": Case(
        _norm((1, 64, 256, 256), last=True, activation="leaky_relu", whole=True)
    ),
    "one group planes 256x256 fp16": Case(_norm((1, 64, 256, 256), activation="leaky_relu", whole=True)),
    "shuffle planes x2 fp16": Case(_shuffle((1, 256, 128, 128), 2), loads=8),
    "shuffle planes x4 fp16": Case(_shuffle((1, 256, 128, 128), 4), loads=8),
    "shuffle channels_last x2 fp16": Case(_shuffle((1, 256, 128, 128), 2, last=True)),
    "shuffle channels_last x4 fp16": Case(_shuffle((1, 1024, 64, 64), 4, last=True)),
    "shuffle channels_last dcr x2 fp16": Case(_shuffle((1, 256, 128, 128), 2, last=True, dcr=True)),
    "shuffle channels_last dcr x3 fp32": Case(_shuffle((1, 576, 64, 64), 3, FULL, last=True, dcr=True)),
    "shuffle channels_last x4 to RGB fp16": Case(_shuffle((1, 48, 128, 128), 4, last=True), loads=2, stores=2),
    "shuffle channels_last dcr x4 to RGB fp16": Case(
        _shuffle((1, 48, 128, 128), 4, last=True, dcr=True), loads=8, stores=8
    ),
    "epilogue channels_last fp16, prelu": Case(_epilogue((8, 64, 256, 256), last=True, slopes=64)),
    "epilogue channels_last fp16 + residual": Case(_epilogue((8, 64, 256, 256), last=True, residual="same")),
    "epilogue channels_last bf16 relu": Case(
        _epilogue((1, 256, 540, 960), BF16, last=True, activation="relu"), first=80
    ),
    "epilogue channels_last fp32 leaky_relu + residual": Case(
        _epilogue((1, 64, 1080, 1920), FULL, last=True, activation="leaky_relu", residual="same")
    ),
    "epilogue channels_last of 48 channels fp16": Case(_epilogue((1, 48, 540, 960), last=True)),
    "epilogue channels_last of 3 channels fp16 tanh": Case(_epilogue((1, 3, 1080, 1920), last=True, activation="tanh")),
    "epilogue channels_last fp16 relu, border 1": Case(
        _epilogue((8, 256, 64, 64), last=True, activation="relu", pads=(1, 1, 1, 1))
    ),
    "epilogue channels_last fp16 + residual inside a border": Case(
        _epilogue((8, 256, 64, 64), last=True, residual="padded")
    ),
    "epilogue channels_last fp16, 3 of 8 channels": Case(
        _epilogue((1, 8, 1080, 1920), last=True, activation="tanh", first=3), loads=2, stores=2
    ),
    "spread fp16 to 4, a block's input": Case(
        _spread((4, 64, 256, 256), (96, 128, 160, 192), 0, residual=True, own=True)
    ),
    "spread fp16 to 3, a convolution": Case(_spread((4, 32, 256, 256), (128, 160, 192), 96)),
    "spread fp32 to 1, a convolution": Case(_spread((1, 32, 256, 256), (192,), 160, FULL)),
    "epilogue planes fp16, prelu + residual": Case(_epilogue((8, 64, 256, 256), slopes=64, residual="same")),
    "from uint8 to planes fp16": Case(_from(HALF, last=False), loads=4),
    "from uint8 to channels_last fp16": Case(_from(HALF, last=True), loads=8),
    "from uint16 RGBA to planes fp32": Case(_from(FULL, last=False, channels=4, pixels=torch.uint16), loads=2),
    "to uint8 from planes fp16": Case(_to(HALF, last=False), stores=4),
    "to uint8 from channels_last fp16": Case(_to(HALF, last=True), stores=8),
    "to uint16 RGBA from planes fp32": Case(_to(FULL, last=False, channels=4, pixels=torch.uint16), stores=2),
    "blend fp16": Case(_blend, loads=2, stores=2),
}
