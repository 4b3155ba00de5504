"""Machine code of kernels: compiled when a kernel is first used, and kept between runs if there is a folder for it."""

from __future__ import annotations

import ctypes
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from gankit_kernels.on_cpu.llvm import Code, lanes, registers

P = ParamSpec("P")
Arguments = Sequence[tuple[str, str]]
SUFFIX = ".o"

_lock = threading.RLock()  # LLVM's context is one for all threads
_kept: list[Path] = []  # the folder, if there is one


def keep_in(folder: Path | None) -> None:
    """Keep machine code in a folder, from which later runs of this process's user start at once.

    The name of each file ends with the sha256 of its content, which is checked before it is used. Code of another
    processor, of another llvmlite or of other kernels is not used. A folder that cannot be written keeps nothing.

    Args:
        folder: need not exist, and no one but the user may write there; ``None`` keeps nothing.
    """
    _kept[:] = [] if folder is None else [folder]


def kernel(arguments: Arguments) -> Callable[[Callable[Concatenate[Code, P], None]], Callable[P, Compiled]]:
    """Make a function that writes a kernel one that returns it compiled, once for each of its arguments.

    Args:
        arguments: those of the kernel, as for :class:`~gankit_kernels.on_cpu.llvm.Code`.
    """

    def decorate(write: Callable[Concatenate[Code, P], None]) -> Callable[P, Compiled]:
        known: dict[tuple[object, ...], Compiled] = {}

        @wraps(write)
        def get(*given: P.args, **named: P.kwargs) -> Compiled:
            if named:
                raise TypeError(f"{write.__name__} takes no arguments by name")
            with _lock:
                if given not in known:
                    known[given] = _made(write, arguments, given)
                return known[given]

        return get

    return decorate


class Compiled:
    """A compiled function. Calling it releases Python's lock.

    Args:
        code: an object file with the function.
        name: of the function.
        arguments: number of its arguments, each an address or an integer.
    """

    def __init__(self, code: bytes, name: str, arguments: int) -> None:
        import llvmlite.binding as llvm

        _start()
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())  # owns the machine code
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()
        self.address: int = self._engine.get_function_address(name)
        self._call: Callable[..., None] = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * arguments)(self.address)

    def __call__(self, *arguments: int) -> None:
        """Run it."""
        self._call(*arguments)


def _made(write: Callable[..., None], arguments: Arguments, given: tuple[object, ...]) -> Compiled:
    name = write.__name__
    stem = f"{name}-{hashlib.sha256(repr((_facts(), name, arguments, given)).encode()).hexdigest()[:32]}"
    found = _stored(stem)
    if found is None:
        code = Code(name, arguments, lanes())
        write(code, *given)
        code.builder.ret_void()
        found = _compile(str(code.module))
        _store(stem, found)
    return Compiled(found, name, len(arguments))


@cache
def _facts() -> tuple[object, ...]:
    """What machine code depends on besides its kernel's arguments."""
    import llvmlite
    import llvmlite.binding as llvm

    sources = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        sources.update(path.read_bytes())
    processor = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), lanes(), registers()
    return llvmlite.__version__, llvm.get_process_triple(), *processor, sources.hexdigest()


def _stored(stem: str) -> bytes | None:
    for folder in _kept:
        for path in sorted(folder.glob(f"{stem}-{'[0-9a-f]' * 64}{SUFFIX}")):
            with suppress(OSError):
                code = path.read_bytes()
                if path.stem.endswith(hashlib.sha256(code).hexdigest()):
                    os.utime(path)  # the time of the last use
                    return code
                path.unlink()
    return None


def _store(stem: str, code: bytes) -> None:
    for folder in _kept:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".gankit-", dir=folder) as scratch:
                draft = Path(scratch) / "code"
                draft.write_bytes(code)
                draft.replace(folder / f"{stem}-{hashlib.sha256(code).hexdigest()}{SUFFIX}")


@cache
def _start() -> None:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _machine() -> Any:
    import llvmlite.binding as llvm

    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3, jit=True
    )


def _compile(text: str) -> bytes:
    """Compile LLVM's intermediate representation to an object file."""
    import llvmlite.binding as llvm

    _start()
    parsed = llvm.parse_assembly(text)
    parsed.verify()
    machine = _machine()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_unrolling = False  # the bodies are long enough
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(parsed, passes)
    return bytes(machine.emit_object(parsed))
