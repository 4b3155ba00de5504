"""How far an exported file's images are from those of the fp32 module.

Two figures, because one runtime on a CPU does not see everything: ONNX Runtime has no fp16 kernels there and computes
an fp16 file in fp32, without the casts between layers, so that an activation beyond 65504 passes unseen and is a black
image on the first GPU. The typed module, run eagerly, rounds and overflows as the file says; only its convolutions
sum in float32 (as tensor cores do), for fp16 convolutions take minutes on CPUs that have no instructions for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

Runtime = Literal["onnxruntime", "openvino"]
"""What can run an ONNX file for the comparison."""
Batch = NDArray[np.float32]
Inputs = Batch | tuple[NDArray[Any], ...]
"""What a generator is called with: images, or latents and the like in the order of its arguments."""

# Heights and widths at which parity is measured: a whole small image, a tiny one, odd sides.
SHAPES = ((192, 256), (32, 32), (97, 131))
_IMAGES = 4  # axes


@dataclass(frozen=True)
class ShapeParity:
    """Parity at one input shape, on values scaled to [0, 1] and clamped there.

    Attributes:
        shape: (N, C, H, W) of the input, or (N, latent).
        psnr: of the file in its runtime, dB; infinite for equal images, ``-inf`` for values that are not finite.
        max_abs: largest absolute difference of the same; 1 is full scale.
        eager_psnr: of the typed module, run by torch, dB: layers in their own types, the sums of convolutions and
            matrix products in float32.
    """

    shape: tuple[int, ...]
    psnr: float
    max_abs: float
    eager_psnr: float

    @property
    def worst(self) -> float:
        """The lower of both figures, which has to pass."""
        return min(self.psnr, self.eager_psnr)

    @property
    def title(self) -> str:
        """The input in words: ``"256×192"`` (width and height), or ``"5 latents"``."""
        if len(self.shape) == _IMAGES:
            return f"{self.shape[3]}×{self.shape[2]}"
        return f"{self.shape[0]} latent{'s' if self.shape[0] > 1 else ''}"


def runtime_for(precision: str) -> Runtime:
    """What can run such a file on a CPU: ONNX Runtime has no bf16 convolution there, OpenVINO has."""
    return "openvino" if precision == "bf16" else "onnxruntime"


def shapes(multiple: int = 1, minimum: int = 1) -> list[tuple[int, int]]:
    """``SHAPES`` in multiples, none below the least side, no two alike: a large multiple makes one of all three."""
    found: list[tuple[int, int]] = []
    for index, sides in enumerate(SHAPES):
        height, width = (-(-max(side, minimum) // multiple) * multiple for side in sides)
        while (height, width) in found:  # wider, then higher
            height, width = (height, width + multiple) if index == 1 else (height + multiple, width)
        found.append((height, width))
    return found


def samples(
    images: Sequence[NDArray[np.unsignedinteger]],
    *,
    channels: int = 3,
    multiple: int = 1,
    minimum: int = 1,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> list[Batch]:
    """Cut images to the shapes at which parity is measured: each shape once, and each image at least once.

    Args:
        images: (H, W, 3) RGB, uint8 or uint16, at least one. The middle is cut; small ones are mirrored to size.
        channels: 3, or 1 for their mean.
        multiple: sides are rounded up to a multiple of this.
        minimum: no side is shorter.
        value_range: what black and white become.

    Returns:
        (1, C, H, W) each.
    """
    batches, sizes = [], shapes(multiple, minimum)
    for index in range(max(len(sizes), len(images))):
        sides = sizes[index % len(sizes)]
        batches.append(cut(images[index % len(images)], sides, channels=channels, value_range=value_range))
    return batches


def cut(
    pixels: NDArray[np.unsignedinteger],
    sides: tuple[int, int],
    *,
    channels: int = 3,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> Batch:
    """Cut the middle of an image, or mirror a small one to size.

    Args:
        pixels: (H, W, 3) RGB, uint8 or uint16.
        sides: height and width of the result in pixels.
        channels: 3, or 1 for their mean.
        value_range: what black and white become.

    Returns:
        (1, C, height, width) float32 in ``value_range``.
    """
    low, high = value_range
    height, width = sides
    short = [(0, max(0, want - have)) for want, have in zip((height, width), pixels.shape, strict=False)]
    pixels = np.pad(pixels, (*short, (0, 0)), mode="symmetric")
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    values = pixels[top : top + height, left : left + width].astype(np.float32) / np.iinfo(pixels.dtype).max
    if channels == 1:
        values = values.mean(axis=2, keepdims=True)
    batch = (values * (high - low) + low).transpose(2, 0, 1)[None]
    return np.ascontiguousarray(batch, dtype=np.float32)


def open_file(path: Path | str, runtime: Runtime, *, threads: int | None = None) -> Callable[..., Batch]:
    """A function that runs an ONNX file on the CPU, exactly as the file says where the runtime can.

    It takes the file's inputs in their order and gives its first output.

    Raises:
        ImportError: the runtime is not installed.
    """
    if runtime == "openvino":
        from gankit_export.openvino_core import openvino_core

        core = openvino_core()
        # by default OpenVINO takes bf16 for any file on CPUs that have it
        settings = {"INFERENCE_PRECISION_HINT": "f32"} | ({"INFERENCE_NUM_THREADS": threads} if threads else {})
        compiled = core.compile_model(core.read_model(str(path)), "CPU", settings)
        return lambda *given: np.array(compiled(list(given))[0])
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]
    return lambda *given: session.run(None, dict(zip(names, given, strict=True)))[0]


def measure(
    run: Callable[..., Batch],
    module: nn.Module,
    typed: nn.Module,
    batches: Sequence[Inputs],
    *,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> tuple[ShapeParity, ...]:
    """Compare a file, and the typed module it was made from, with the fp32 module.

    Args:
        run: the file, from :func:`open_file`.
        module: the generator as loaded: fp32, eval mode, no rewrite.
        typed: what was exported; float32 in and out.
        batches: (N, C, H, W) float32 in ``value_range``, or a tuple of all that the generator takes.
        value_range: of the generator's input and output.

    Raises:
        ValueError: a result has another shape than the module's.
    """
    results = []
    for batch in batches:
        given = batch if isinstance(batch, tuple) else (batch,)
        tensors = [torch.from_numpy(item) for item in given]
        with torch.inference_mode():
            wanted = module(*tensors).numpy()
        with torch.no_grad(), _WideSums():  # type: ignore[no-untyped-call]
            eager = typed(*tensors).numpy()
        psnr, max_abs = compare(run(*given), wanted, value_range)
        results.append(ShapeParity(tuple(given[0].shape), psnr, max_abs, compare(eager, wanted, value_range)[0]))
    return tuple(results)


class _WideSums(TorchDispatchMode):
    """Convolutions and matrix products of narrow tensors: sums in float32, result rounded to the narrow type."""

    _WIDE = frozenset(
        getattr(torch.ops.aten, name) for name in ("convolution", "mm", "addmm", "bmm", "baddbmm", "mkldnn_convolution")
    )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        dtypes = {item.dtype for item in args if isinstance(item, Tensor)}
        if func.overloadpacket not in self._WIDE or not dtypes & {torch.float16, torch.bfloat16}:
            return func(*args, **kwargs)
        args, kwargs = tree_map(lambda item: item.float() if isinstance(item, Tensor) else item, (args, kwargs))
        return func(*args, **kwargs).to(dtypes.pop())


def compare(
    result: NDArray[np.floating], wanted: NDArray[np.floating], value_range: tuple[float, float] = (0.0, 1.0)
) -> tuple[float, float]:
    """PSNR in dB and largest difference of two images, both scaled to [0, 1] and clamped there.

    Raises:
        ValueError: their shapes differ.
    """
    if result.shape != wanted.shape:
        raise ValueError(f"the file gives {result.shape}, the module {wanted.shape}")
    if not np.isfinite(result).all():
        return -math.inf, math.inf
    low, high = value_range
    difference = np.subtract(*(((x.astype(np.float64) - low) / (high - low)).clip(0, 1) for x in (result, wanted)))
    mse = float(np.square(difference).mean())
    return math.inf if mse == 0 else -10 * math.log10(mse), float(np.abs(difference).max())
