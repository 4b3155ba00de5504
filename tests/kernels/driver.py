"""A GPU's driver that runs nothing: Triton compiles for it and launches as on an H200, without one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch


class Launcher:
    """What Triton makes of a compiled kernel to launch it with; notes the arguments, if asked."""

    calls: ClassVar[list[tuple[Any, ...]] | None] = None

    def __init__(self, source: Any, metadata: Any) -> None:
        self.name = metadata.name

    def __call__(self, x: int, y: int, z: int, stream: int, function: int, *rest: Any) -> None:
        packed, _, _, _, *arguments = rest
        if self.calls is not None:
            self.calls.append((self.name, (x, y, z), stream, function, packed, arguments))


class Utilities:
    """What Triton asks of CUDA."""

    def load_binary(self, name: str, binary: bytes, shared: int, device: int) -> tuple[int, ...]:
        return 1, hash(binary), 32, 0, 1024

    def unload_module(self, module: int) -> None:
        pass

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": 227 << 10, "max_num_regs": 65536, "multiprocessor_count": 132, "warpSize": 32}


class Driver:
    """An H200 that runs nothing."""

    utils, launcher_cls, binary_ext = Utilities(), Launcher, "cubin"

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 7

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")


@contextmanager
def active(cache: Path) -> Iterator[None]:
    """Let Triton take this driver, and keep what it compiles in ``cache``. Plans of other drivers are forgotten."""
    import triton
    from gankit_kernels.on_cuda.instance_norm import _plan as norm
    from gankit_kernels.on_cuda.pixel_shuffle import _plan as shuffle
    from triton.runtime import driver

    before = driver._active
    driver._active = Driver()
    norm.cache_clear()
    shuffle.cache_clear()
    try:
        with triton.knobs.cache.scope():
            triton.knobs.cache.dir = str(cache)
            yield
    finally:
        driver._active = before
        norm.cache_clear()
        shuffle.cache_clear()
