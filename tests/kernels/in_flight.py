"""Bytes that a kernel keeps in flight from memory, read from its machine code without a GPU.

By Little's law, the bytes in flight limit the bandwidth that a kernel reaches. NVIDIA's library CUB aims for these
numbers per multiprocessor, which its authors measured: 12 KiB on V100, 16 on A100, 32 on H100, 48 on H200 and 64 on
B200 (github.com/NVIDIA/cccl, ``cub/device/dispatch/tuning/tuning_transform.cuh``).
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.kernels.compiled import Compiled, Launch

_LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P[\dT]+\s+)?([A-Z0-9_.]+)\s*([^;]*);")
_REGISTER = re.compile(r"\bR(\d+)(\.64)?")
_BYTES = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}


@dataclass(frozen=True)
class Gpu:
    """What limits the number of programs that run at a time.

    Attributes:
        sms: Number of multiprocessors.
        threads: Most threads on a multiprocessor.
        programs: Most programs on a multiprocessor.
        shared: Bytes of shared memory per multiprocessor.
        wanted: Bytes in flight per multiprocessor that keep the memory busy.
    """

    sms: int
    threads: int
    programs: int
    shared: int
    wanted: int


GPUS = {
    80: Gpu(108, 2048, 32, 164 << 10, 16 << 10),  # A100
    90: Gpu(132, 2048, 32, 228 << 10, 48 << 10),  # H200
    100: Gpu(148, 2048, 32, 228 << 10, 64 << 10),  # B200
}


@dataclass(frozen=True)
class Instruction:
    """One line of machine code."""

    address: int
    name: str
    operands: str

    def _bytes(self, kind: str) -> int:
        parts = self.name.split(".")
        return next((_BYTES[part] for part in parts if part in _BYTES), 4) if parts[0] == kind else 0

    @property
    def loads(self) -> int:
        """Bytes that a thread loads from global memory."""
        return self._bytes("LDG")

    @property
    def stores(self) -> int:
        """Bytes that a thread stores to global memory."""
        return self._bytes("STG")

    @property
    def target(self) -> int | None:
        """The address it jumps to, if it is a jump."""
        found = re.search(r"0x([0-9a-f]+)", self.operands)
        return int(found[1], 16) if self.name.split(".")[0] == "BRA" and found else None

    @property
    def registers(self) -> set[int]:
        """Every register that it reads or writes."""
        wide = max(1, next((_BYTES[part] for part in self.name.split(".") if part in _BYTES), 4) // 4)
        used: set[int] = set()
        for found in _REGISTER.finditer(self.operands):
            first, inside = int(found[1]), "[" in self.operands[: found.start()].rpartition("]")[2]
            count = 2 if found[2] else 1 if inside else wide if self.name.startswith(("LDG", "STG")) else 1
            used |= set(range(first, first + count))
        return used


@dataclass(frozen=True)
class Code:
    """The use of memory by a kernel's machine code.

    Attributes:
        in_flight: Most bytes of global loads that a thread has issued and not yet waited for; inside loops, if the
            kernel has any.
        loops: For each loop in order: its instructions, and the bytes that a thread loads and stores in one turn.
    """

    in_flight: int
    loops: tuple[tuple[int, int, int], ...]


def read(cubin: bytes) -> Code:
    """Disassemble a kernel."""
    import triton.backends.nvidia as nvidia

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        tool = Path(nvidia.__file__).with_name("bin") / "cuobjdump"
        text = subprocess.run([tool, "-sass", file.name], capture_output=True, text=True, check=True).stdout
    return walk(parse(text))


def parse(text: str) -> list[Instruction]:
    """The instructions in what ``cuobjdump -sass`` prints."""
    found = [Instruction(int(item[1], 16), item[2], item[3]) for item in _LINE.finditer(text)]
    assert found, text[:500]
    return found


def walk(code: list[Instruction]) -> Code:
    """Go through the code once from top to bottom, and through every loop twice.

    A thread that waits for a load has also waited for those before it. Predicated loads count, because programs in the
    middle of an image run them.
    """
    loops = sorted(
        (item.target, item.address) for item in code if item.target is not None and item.target < item.address
    )
    outstanding: list[tuple[set[int], int]] = []
    most = 0
    for instruction in _in_order(code):
        used = instruction.registers
        waits = [index for index, (registers, _) in enumerate(outstanding) if registers & used]
        if waits:
            del outstanding[: waits[-1] + 1]
        if loads := instruction.loads:
            first = _REGISTER.search(instruction.operands)
            assert first is not None, instruction
            outstanding.append((set(range(int(first[1]), int(first[1]) + max(1, loads // 4))), loads))
            if not loops or any(begin <= instruction.address <= end for begin, end in loops):
                most = max(most, sum(count for _, count in outstanding))
    bodies = [[item for item in code if begin <= item.address <= end] for begin, end in loops]
    return Code(
        most,
        tuple((len(body), sum(item.loads for item in body), sum(item.stores for item in body)) for body in bodies),
    )


def bytes_per_multiprocessor(gpu: Gpu, made: Compiled, code: Code, launch: Launch) -> float:
    """Bytes in flight of all programs that run on one multiprocessor at a time."""
    warps = launch.options["num_warps"]
    programs = min(_programs_at_a_time(gpu, made.registers, made.shared, warps), launch.programs / gpu.sms)
    return code.in_flight * 32 * warps * programs


def _programs_at_a_time(gpu: Gpu, registers: int, shared: int, warps: int) -> int:
    """Number of programs that run on one multiprocessor at a time."""
    by_registers = 65536 // (-(-registers // 8) * 8 * 32) // 4 * 4 // warps
    by_shared = gpu.shared // (shared + 1024)  # the system reserves a KiB for each
    return min(by_registers, by_shared, gpu.threads // (32 * warps), gpu.programs)


def _in_order(code: list[Instruction]) -> Iterator[Instruction]:
    """The instructions in the order of a run that takes every loop twice and skips nothing."""
    at = {instruction.address: index for index, instruction in enumerate(code)}
    taken: set[int] = set()
    index = 0
    while index < len(code):
        instruction = code[index]
        yield instruction
        target = instruction.target
        index += 1
        if target is not None and target < instruction.address and instruction.address not in taken:
            taken.add(instruction.address)
            index = at[target]
