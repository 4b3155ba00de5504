"""An ncnn model: a ``.param`` file with the layers and a ``.bin`` file with the weights, run by ncnn on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NARROW = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage", "use_bf16_packed")

_AXES = 3  # of one image


class NcnnError(RuntimeError):
    """ncnn cannot load a file, or cannot run it. The message is one line."""


class NcnnNet:
    """A loaded model, which computes in fp32 on the CPU. ncnn reads files without checks: verify the checksums first.

    Args:
        param: the ``.param`` file. The ``.bin`` file of the same name is beside it.
        threads: number of CPU threads; ``None`` uses ncnn's default.

    Raises:
        ImportError: ncnn is not installed.
        NcnnError: ncnn cannot load the files.
    """

    def __init__(self, param: Path | str, threads: int | None = None) -> None:
        import ncnn

        self._ncnn, self._net = ncnn, ncnn.Net()
        options = self._net.opt
        options.use_vulkan_compute = False
        for name in _NARROW:  # it would store what is between the layers in half precision, on processors that can
            if hasattr(options, name):
                setattr(options, name, False)
        if threads is not None:
            options.num_threads = threads
        param = Path(param)
        if self._net.load_param(str(param)) or self._net.load_model(str(param.with_suffix(".bin"))):
            raise NcnnError("ncnn cannot load it")
        self.inputs: tuple[str, ...] = tuple(self._net.input_names())
        self._output = next(iter(self._net.output_names()), "")

    def __call__(self, *given: NDArray[Any]) -> NDArray[np.float32]:
        """Run a batch. ncnn has no batches, so that its items run one after the other.

        Args:
            given: the inputs: (N, C, H, W) or (N, latent) float32, and (N,) int64 for classes.

        Returns:
            (N, C', H', W') float32.

        Raises:
            NcnnError: The number of inputs is wrong, or a layer fails.
            MemoryError: There is no memory for a layer.
        """
        if len(given) != len(self.inputs):
            raise NcnnError(f"takes {len(self.inputs)} inputs, not {len(given)}")
        return np.stack([self._one(items) for items in zip(*given, strict=True)])

    def close(self) -> None:
        """Release the memory of the model. It is safe to call this twice."""
        self._net.clear()

    def _one(self, items: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        extractor = self._net.create_extractor()
        for name, item in zip(self.inputs, items, strict=True):
            kind = np.int32 if np.issubdtype(item.dtype, np.integer) else np.float32
            # A Mat of an array borrows its memory and does not keep it alive; the clone owns its own.
            extractor.input(name, self._ncnn.Mat(np.ascontiguousarray(np.atleast_1d(item), dtype=kind)).clone())
        status, made = extractor.extract(self._output)
        if status == -100:  # ncnn's only code that says why
            raise MemoryError("ncnn is out of memory")
        if status:
            raise NcnnError(f"ncnn cannot run it (status {status})")
        result = np.array(made, dtype=np.float32)
        return result[0] if result.ndim > _AXES and result.shape[0] == 1 else result  # a batch axis that pnnx kept
