"""An AOTInductor package, machine code in a ``.pt2`` file, with the checks that it does not do itself.

A package trusts its caller: another shape than those it was compiled for gives garbage or a segmentation fault, and
instructions that the processor lacks end the process. So its manifest records what it needs, and :class:`Package`
checks all of it before the first call, and the inputs of every call.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from gankit_export.messages import first_line

Axis = tuple[int, int, int]
"""Smallest size, largest size and multiple of an axis."""
DTYPES: Mapping[str, torch.dtype] = {"float32": torch.float32, "int64": torch.int64, "uint8": torch.uint8}
# What Inductor's names of instruction sets need, in the words of torch.cpu. AVX-512 code also has AVX2 in it.
_INSTRUCTIONS: Mapping[str, tuple[str, ...]] = {
    "AVX2": ("_is_avx2_supported",),
    "AVX512": ("_is_avx2_supported", "_is_avx512_supported"),
    "AVX512_VNNI": ("_is_vnni_supported",),
    "AMX_TILE": ("_is_amx_tile_supported",),
}
_PLAIN = ("INVALID_VEC_ISA", "")


class PackageError(RuntimeError):
    """A package cannot be used here, or not with these inputs. The message is one line."""


@dataclass(frozen=True)
class Input:
    """An input of a package.

    Attributes:
        name: of the input.
        dtype: ``"float32"``, ``"int64"`` for classes, or ``"uint8"`` for pixels, whose axes are (N, H, W, C).
        axes: of each axis the smallest size, the largest size and the multiple.
    """

    name: str
    dtype: str
    axes: tuple[Axis, ...]

    def refuses(self, given: Tensor) -> str | None:
        """Return why a tensor is not what the package was compiled for; ``None`` if it is."""
        if given.dtype != DTYPES[self.dtype]:
            return f"'{self.name}' must be {self.dtype}, not {str(given.dtype).removeprefix('torch.')}"
        if given.ndim != len(self.axes):
            return f"'{self.name}' must have {len(self.axes)} axes, not {given.ndim}"
        for size, (least, most, multiple) in zip(given.shape, self.axes, strict=True):
            if not least <= size <= most or size % multiple:
                return f"'{self.name}' must be {self.shape}, not {'x'.join(map(str, given.shape))}"
        if not given.is_contiguous():
            return f"'{self.name}' must be contiguous, not of strides {given.stride()}"
        return None

    @property
    def shape(self) -> str:
        """The shape in words, such as ``"1-1024x3x4-16384x4-16384 (multiples of 4)"``."""
        sides = "x".join(str(least) if least == most else f"{least}-{most}" for least, most, _ in self.axes)
        multiple = max((item for least, most, item in self.axes if least != most), default=1)
        return f"{sides} (multiples of {multiple})" if multiple > 1 else sides


@dataclass(frozen=True)
class Needs:
    """What a package needs.

    Attributes:
        torch: version of torch, without the kind of its build.
        device: ``"cpu"`` or ``"cuda"``.
        machine: architecture of the processor, such as ``"x86_64"``.
        isa: instruction set of its CPU code in Inductor's words, such as ``"AVX512 AVX512_VNNI"``.
        capability: compute capability of the GPU, such as ``"90"``; empty for a CPU.
        inputs: what it takes.
    """

    torch: str
    device: str
    machine: str
    isa: str
    capability: str
    inputs: tuple[Input, ...]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        inputs = [{"name": item.name, "dtype": item.dtype, "axes": list(map(list, item.axes))} for item in self.inputs]
        return {**{name: value for name, value in vars(self).items() if name != "inputs"}, "inputs": inputs}

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """Read what :meth:`to_json` returns.

        Raises:
            ValueError: If it is something else.
        """
        try:
            texts = {name: content[name] for name in ("torch", "device", "machine", "isa", "capability")}
            if not all(isinstance(item, str) for item in texts.values()):
                raise TypeError("a text is missing")
            inputs = tuple(
                Input(item["name"], item["dtype"], tuple(_axis(*sizes) for sizes in item["axes"]))
                for item in content["inputs"]
            )
            if not inputs or any(item.dtype not in DTYPES for item in inputs):
                raise TypeError("an input is missing or has an unknown type")
            return cls(**texts, inputs=inputs)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not what an AOTInductor package needs: {error}") from error

    def lacks(self, device: str) -> str | None:
        """Return why this machine cannot run the package on a device; ``None`` if it can."""
        import platform

        here = plain_version(torch.__version__)
        if here != self.torch:
            return f"was compiled with torch {self.torch}, and this is torch {here}"
        if device.partition(":")[0] != self.device:
            return f"was compiled for {self.device}, not for {device}"
        if platform.machine() != self.machine:
            return f"was compiled for {self.machine}, and this machine is {platform.machine()}"
        if lacking := missing_instructions(self.isa):
            return f"was compiled for a processor with {lacking}, which this one lacks"
        if self.device == "cuda" and (found := capability(device)) != self.capability:
            return f"was compiled for GPUs of compute capability {self.capability}, and this one has {found}"
        return None


def plain_version(version: str) -> str:
    """``"2.13.0+cpu"`` -> ``"2.13.0"``."""
    return version.partition("+")[0]


def capability(device: str) -> str:
    """Compute capability of a GPU, such as ``"90"``."""
    return "".join(map(str, torch.cuda.get_device_capability(device)))


def missing_instructions(isa: str) -> str | None:
    """Return the first instruction set of Inductor's name that this processor lacks; ``None`` if it has all.

    Args:
        isa: such as ``"AVX512 AVX512_VNNI AMX_TILE"``. ``""`` and ``"INVALID_VEC_ISA"`` need none. Unknown words are
            those of another architecture, which the name of the machine tells.
    """
    for word in "" if isa in _PLAIN else isa.split():
        for test in _INSTRUCTIONS.get(word, ()):
            if not getattr(torch.cpu, test)():
                return word
    return None


def package_metadata(path: Path | str) -> dict[str, str]:
    """Read what a package says about itself, without loading its code.

    Raises:
        PackageError: It is no AOTInductor package, or is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (item for item in archive.namelist() if item.endswith(".wrapper_metadata.json"))
            found = json.loads(archive.read(name))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, RecursionError) as error:
        raise PackageError(f"is no AOTInductor package, or is damaged ({first_line(error)})") from error
    if not isinstance(found, dict):
        raise PackageError("is no AOTInductor package, or is damaged (its metadata are no object)")
    return {str(key): str(value) for key, value in found.items()}


class Package:
    """A loaded package. It is machine code: load only packages that you trust.

    Args:
        path: the ``.pt2`` file, whose checksum the caller has verified.
        needs: what it needs, from its manifest.
        device: where it runs.

    Raises:
        PackageError: This machine cannot run it, or the file is damaged or says something else than its manifest.
    """

    def __init__(self, path: Path | str, needs: Needs, device: str = "cpu") -> None:
        if why := needs.lacks(device):
            raise PackageError(why)
        found = package_metadata(path)
        for name, wanted in (("AOTI_MACHINE", needs.machine), ("AOTI_CPU_ISA", needs.isa)):
            if found.get(name, "") != wanted:
                raise PackageError(f"has {name} '{found.get(name, '')}', and its manifest says '{wanted}'")
        self.needs, self.device = needs, device
        number = int(device.partition(":")[2] or -1) if needs.device == "cuda" else -1
        try:
            self._run: Any = torch._inductor.aoti_load_package(str(path), device_index=number)
        except Exception as error:
            raise PackageError(f"torch cannot load it: {first_line(error)}") from error

    def __call__(self, *given: Tensor) -> Tensor:
        """Run the package.

        Args:
            given: the inputs on the device of the package, contiguous.

        Raises:
            PackageError: An input has another shape, dtype or memory layout than the package was compiled for, or is
                on another device.
        """
        if len(given) != len(self.needs.inputs):
            raise PackageError(f"takes {len(self.needs.inputs)} inputs, not {len(given)}")
        for item, wanted in zip(given, self.needs.inputs, strict=True):
            if item.device.type != self.needs.device:
                raise PackageError(f"'{wanted.name}' must be on {self.needs.device}, not on {item.device}")
            if why := wanted.refuses(item):
                raise PackageError(why)
        if len({item.shape[0] for item in given}) > 1:
            raise PackageError("the inputs must have equal batches")
        result = self._run(*given)
        made: Tensor = result[0] if isinstance(result, tuple | list) else result
        return made


def _axis(least: Any, most: Any, multiple: Any) -> Axis:
    if not all(type(item) is int and item > 0 for item in (least, most, multiple)) or least > most:
        raise ValueError(f"an axis cannot have the sizes {least}, {most}, {multiple}")
    return least, most, multiple
