"""Kernels compiled ahead of time, without a GPU, and facts about the result.

A launch runs with a recorder in place of the launcher, so that the tests compile exactly what the launch would run:
dtypes, constants, and the alignment that Triton finds in the arguments.
"""

from __future__ import annotations

import csv
import math
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

TABLE = Path(__file__).with_name("registers.csv")
TARGETS = (75, 80, 86, 89, 90, 100, 120)
TYPES = {
    torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16",
    torch.float64: "fp64", torch.uint8: "u8", torch.uint16: "u16", torch.int32: "i32",
}  # fmt: skip


@dataclass(frozen=True)
class Launch:
    """One recorded launch: a kernel, its arguments by name, its options, and the number of programs."""

    kernel: Any
    arguments: dict[str, Any]
    options: dict[str, Any]
    programs: int

    @property
    def name(self) -> str:
        return f"{self.kernel.fn.__module__.rpartition('.')[2]}.{self.kernel.fn.__name__}"


@dataclass(frozen=True)
class Compiled:
    """One kernel compiled for one architecture.

    Attributes:
        registers: Registers per thread.
        stack: Bytes of stack per thread; more than 0 are spilled registers.
        shared: Bytes of shared memory per program.
        loads: Widest global load in bytes.
        stores: Widest global store in bytes.
        cubin: The machine code.
    """

    registers: int
    stack: int
    shared: int
    loads: int
    stores: int
    cubin: bytes = field(repr=False)


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Record the kernels launched inside the block, which do not run."""
    from triton.runtime.jit import JITFunction

    launches: list[Launch] = []

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        assert all(isinstance(size, int) and size > 0 for size in grid)
        names = [item for item in self.arg_names if item not in kwargs]
        arguments = dict(zip(names, args, strict=True))
        options = {name: value for name, value in kwargs.items() if name not in self.arg_names}
        arguments |= {name: value for name, value in kwargs.items() if name in self.arg_names}
        launches.append(Launch(self, arguments, options, math.prod(grid)))

    before = JITFunction.run
    JITFunction.run = run
    try:
        yield launches
    finally:
        JITFunction.run = before


def compile_for(launch: Launch, target: int) -> Compiled:
    """Compile a recorded launch for ``sm_<target>``."""
    import triton
    import triton.backends.nvidia as nvidia
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature: dict[str, str] = {}
    constants: dict[Any, Any] = {}
    attributes: dict[Any, Any] = {}
    parameters = {item.name: item for item in launch.kernel.params}
    for index, name in enumerate(launch.kernel.arg_names):
        value = launch.arguments[name]
        if parameters[name].is_constexpr:
            signature[name], constants[(index,)] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[name] = f"*{TYPES[value.dtype]}"
            if value.data_ptr() % 16 == 0:
                attributes[(index,)] = [["tt.divisibility", 16]]
        elif isinstance(value, float):
            signature[name] = "fp32"
        elif value == 1 and not parameters[name].do_not_specialize:
            signature[name], constants[(index,)] = "constexpr", value
        else:
            fixed = parameters[name].do_not_specialize or parameters[name].do_not_specialize_on_alignment
            assert fixed, f"{name} would be specialised"
            signature[name] = "i32" if value < 2**31 else "i64"
    source = ASTSource(fn=launch.kernel, signature=signature, constexprs=constants, attrs=attributes)
    made = triton.compile(source, target=GPUTarget("cuda", target, 32), options=launch.options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        tool = Path(nvidia.__file__).with_name("bin") / "cuobjdump"
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", text)
    assert found is not None, text
    ptx = made.asm["ptx"]
    widest = _widest("ld", ptx), _widest("st", ptx)
    return Compiled(int(found[1]), int(found[2]), made.metadata.shared, *widest, made.asm["cubin"])


def _widest(kind: str, ptx: str) -> int:
    """Bytes of the widest global access of a kind, ``ld`` or ``st``."""
    pattern = rf"\b{kind}\.global(?:\.[a-zA-Z_:0-9]+?)*?(?:\.v(\d))?\.[bfus](\d+)\s"
    return max((int(count or 1) * int(bits) // 8 for count, bits in re.findall(pattern, ptx)), default=0)


def table() -> dict[tuple[str, str], dict[int, int]]:
    """The register ceilings: (case, kernel) -> architecture -> registers."""
    with TABLE.open(newline="") as file:
        return {
            (row["case"], row["kernel"]): {key: int(row[f"sm_{key}"]) for key in TARGETS if row[f"sm_{key}"]}
            for row in csv.DictReader(file)
        }


def launches(case: Callable[[], Any]) -> list[Launch]:
    """The launches of a case."""
    with recorded() as found:
        case()
    return found
