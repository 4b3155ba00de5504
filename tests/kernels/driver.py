"""A driver of a GPU that runs nothing: Triton compiles for an H200 and launches as if there were one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch


@dataclass(frozen=True)
class Call:
    """One launch, as the driver receives it.

    Attributes:
        name: Name of the kernel.
        grid: Number of programs along each axis.
        stream: The CUDA stream.
        function: Handle of the loaded machine code.
        packed: Triton's launch options.
        arguments: All arguments of the kernel, constants too.
        types: Type for which each argument was compiled, such as ``"*fp16"`` or ``"i32"``.
    """

    name: str
    grid: tuple[int, int, int]
    stream: int
    function: int
    packed: Any
    arguments: tuple[Any, ...]
    types: tuple[str, ...]


class Launcher:
    """What Triton makes of a compiled kernel to launch it; records the calls on request."""

    calls: ClassVar[list[Call] | None] = None

    def __init__(self, source: Any, metadata: Any) -> None:
        self.name, self.types = metadata.name, tuple(source.signature.values())

    def __call__(self, x: int, y: int, z: int, stream: int, function: int, *rest: Any) -> None:
        packed, _, _, _, *arguments = rest
        if self.calls is not None:
            self.calls.append(Call(self.name, (x, y, z), stream, function, packed, tuple(arguments), self.types))


class Utilities:
    """What Triton asks CUDA for."""

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
    """Make this Triton's driver, with compiled kernels in ``cache``; plans made for other drivers are dropped."""
    import triton
    from triton.runtime import driver

    before = driver._active
    driver._active = Driver()
    _forget()
    try:
        with triton.knobs.cache.scope():
            triton.knobs.cache.dir = str(cache)
            yield
    finally:
        driver._active = before
        _forget()


def _forget() -> None:
    """Drop all plans and all compiled kernels of this process."""
    from gankit_kernels.on_cuda import epilogue, instance_norm, pixel_shuffle, spread

    epilogue.plan.cache_clear()
    instance_norm.plan.cache_clear()
    pixel_shuffle.plan.cache_clear()
    spread.plan.cache_clear()
    for kernel in kernels():
        kernel.device_caches.clear()


class Uncompiled:
    """Stands in for a compiled kernel that nothing launches."""

    function = packed_metadata = None

    def launch_metadata(self, *_: Any) -> None:
        return None

    def run(self, *_: Any) -> None:
        return None

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return self.run


def kernels() -> list[Any]:
    """Every kernel that is launched, without the functions that only kernels call."""
    from gankit_kernels.on_cuda import blend, channels_last, epilogues, integers, planes, shuffles, spreads

    modules = blend, channels_last, epilogues, integers, planes, shuffles, spreads
    found = [
        item
        for module in modules
        for name, item in vars(module).items()
        if hasattr(item, "device_caches") and item.module == module.__name__ and not name.startswith("_")
    ]
    assert len(found) >= 22
    return found


@contextmanager
def compilations() -> Iterator[set[tuple[str, object]]]:
    """Collect the kernels that Triton would compile, each with its key. Nothing is compiled or launched."""
    from triton.runtime.jit import JITFunction

    keys: set[tuple[str, object]] = set()

    def compile_nothing(self: Any, key: object, signature: object, device: int, *_: Any) -> Uncompiled:
        keys.add((f"{self.module}.{self.__name__}", key))
        return self.device_caches[device][0].setdefault(key, Uncompiled())

    before = JITFunction._do_compile
    JITFunction._do_compile = compile_nothing
    try:
        yield keys
    finally:
        JITFunction._do_compile = before
