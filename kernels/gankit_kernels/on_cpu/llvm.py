"""Kernels in LLVM's intermediate representation, with llvmlite.

A kernel is written in vectors of float32 as wide as the processor's registers. LLVM chooses the instructions and
allocates the registers; no compiler need be installed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any


def installed() -> bool:
    """Whether llvmlite is installed."""
    return find_spec("llvmlite") is not None


@cache
def features() -> frozenset[str]:
    """Return the instruction sets of this processor by LLVM's names, such as ``"avx2"``."""
    import llvmlite.binding as llvm

    return frozenset(name for name, there in llvm.get_host_cpu_features().items() if there)


def lanes() -> int:
    """Return how many float32 a register holds: 16 with AVX-512, 8 with AVX2, and 4 elsewhere (NEON, SSE)."""
    return 16 if "avx512f" in features() else 8 if {"avx2", "fma"} <= features() else 4


def registers() -> int:
    """Return how many vector registers there are: 32 with AVX-512 and on Arm, 16 elsewhere."""
    return 32 if {"avx512f", "neon"} & features() else 16


class Code:
    """Writes the body of one function.

    Args:
        name: of the function.
        arguments: name and type of each: ``"pointer"`` to float32, ``"integer"`` of 64 bits.
        width: float32 in a vector.

    Attributes:
        module: ``llvmlite.ir.Module`` that holds the function.
        builder: ``llvmlite.ir.IRBuilder`` at the end of its body.
        arguments: by name.
    """

    def __init__(self, name: str, arguments: Sequence[tuple[str, str]], width: int) -> None:
        from llvmlite import ir

        self._ir, self.module = ir, ir.Module()
        self.float, self.integer = ir.FloatType(), ir.IntType(64)
        self.vector = ir.VectorType(self.float, width)
        self.function = ir.Function(self.module, self._signature(arguments), name)
        self.function.attributes.add("nounwind")
        self.arguments = dict(zip((name for name, _ in arguments), self.function.args, strict=True))
        self.builder = ir.IRBuilder(self.function.append_basic_block())
        self._width = width

    def _signature(self, arguments: Sequence[tuple[str, str]]) -> Any:
        types = {"pointer": self.float.as_pointer(), "integer": self.integer}
        return self._ir.FunctionType(self._ir.VoidType(), [types[kind] for _, kind in arguments])

    def call(self, address: Any, arguments: Sequence[tuple[str, str]], values: Sequence[Any]) -> None:
        """Call the function at an address.

        Args:
            address: integer.
            arguments: those of the function, as for :class:`Code`.
            values: of the arguments.
        """
        function = self.builder.inttoptr(address, self._signature(arguments).as_pointer())
        self.builder.call(function, values)

    def number(self, value: int) -> Any:
        """A constant integer."""
        return self.integer(value)

    def never(self) -> Any:
        """The condition that does not hold."""
        return self._ir.IntType(1)(0)

    def same(self, value: float) -> Any:
        """A constant vector of one value."""
        return self._ir.Constant(self.vector, [float(value)] * self._width)

    def spread(self, pointer: Any) -> Any:
        """A vector of the one value at an address."""
        none = self._ir.Constant(self.vector, self._ir.Undefined)
        index = self._ir.IntType(32)
        one = self.builder.insert_element(none, self.builder.load(pointer, align=4), index(0))
        return self.builder.shuffle_vector(one, none, self._ir.Constant(self._ir.VectorType(index, self._width), None))

    def at(self, pointer: Any, *offsets: Any) -> Any:
        """An address moved by numbers of float32."""
        for offset in offsets:
            pointer = self.builder.gep(pointer, [self.number(offset) if isinstance(offset, int) else offset])
        return pointer

    def load(self, pointer: Any) -> Any:
        """A vector from memory."""
        return self.builder.load(self.builder.bitcast(pointer, self.vector.as_pointer()), align=4)

    def store(self, value: Any, pointer: Any) -> None:
        """A vector to memory."""
        self.builder.store(value, self.builder.bitcast(pointer, self.vector.as_pointer()), align=4)

    def prefetch(self, pointer: Any, write: bool = False) -> None:
        """Ask for the cache line of an address, which need not be valid."""
        name, index = "llvm.prefetch.p0i8", self._ir.IntType(32)
        bytes_ = self._ir.IntType(8).as_pointer()
        signature = self._ir.FunctionType(self._ir.VoidType(), [bytes_, index, index, index])
        known = self.module.globals.get(name) or self._ir.Function(self.module, signature, name)
        self.builder.call(known, [self.builder.bitcast(pointer, bytes_), index(int(write)), index(3), index(1)])

    def multiply_add(self, one: Any, other: Any, plus: Any) -> Any:
        """``one * other + plus`` of vectors, rounded once."""
        name = f"llvm.fma.v{self._width}f32"
        signature = self._ir.FunctionType(self.vector, [self.vector] * 3)
        known = self.module.globals.get(name) or self._ir.Function(self.module, signature, name)
        return self.builder.call(known, [one, other, plus])

    @contextmanager
    def loop(self, stop: Any, step: Any, start: Any = None, carried: Sequence[Any] = ()) -> Iterator[Loop]:
        """Repeat what is written inside for each index from ``start`` (0) on below ``stop``.

        Args:
            stop: integer; ``start`` must be below it if values are carried.
            step: integer.
            start: integer.
            carried: values before the first round. :attr:`Loop.values` are those of the round before, and
                ``Loop.next`` must be set to those of this round.
        """
        builder = self.builder
        before = builder.block
        head, body, end = (self.function.append_basic_block() for _ in range(3))
        builder.branch(head)
        builder.position_at_end(head)
        index = builder.phi(self.integer)
        values = [builder.phi(value.type) for value in carried]
        for phi, value in zip([index, *values], [self.number(0) if start is None else start, *carried], strict=True):
            phi.add_incoming(value, before)
        builder.cbranch(builder.icmp_signed("<", index, stop), body, end)
        builder.position_at_end(body)
        this = Loop(index, values)
        yield this
        following = builder.add(index, self.number(step) if isinstance(step, int) else step)
        for phi, value in zip([index, *values], [following, *this.next], strict=True):
            phi.add_incoming(value, builder.block)
        builder.branch(head)
        builder.position_at_end(end)


class Loop:
    """A loop that is being written.

    Attributes:
        index: of the round.
        values: the carried values at the start of the round, and after the loop at its end.
        next: the carried values at the end of the round.
    """

    def __init__(self, index: Any, values: Sequence[Any]) -> None:
        self.index, self.values = index, list(values)
        self.next: Sequence[Any] = []
