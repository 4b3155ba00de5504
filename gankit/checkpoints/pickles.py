"""A PyTorch file -> what it holds, without running code: ``torch.load(weights_only=True)`` alone reads it.

Training scripts store much beside the weights: NumPy scalars, paths, dates, the options, objects of their own classes.
``torch.load`` refuses all of these. Here every name that it does not know is put on its list of safe globals with an
inert stand-in, so that neither NumPy's code nor anybody else's is called, and the tensors around it can be read.
Functions that run programs or code are refused as before.
"""

from __future__ import annotations

import io
import logging
import pickle
import pickletools
import re
import threading
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from gankit.checkpoints.pickle_names import CODE, CODE_MODULES, DICTIONARIES, LISTS, PLAIN_MODULES
from gankit.errors import CheckpointError

ZIP, PICKLE = b"PK\x03\x04", b"\x80"
STATE_DICT_ONLY = "save its weights only: torch.save(module.state_dict(), FILE)"


_log = logging.getLogger(__name__)
_loading = threading.Lock()  # torch's list of safe globals is one for all threads


class _Skipped:
    """In place of an object that is not read. It takes whatever a pickle gives it and calls nothing."""

    def __new__(cls, *args: object, **named: object) -> Any:
        return object.__new__(cls)

    def __init__(self, *args: object, **named: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def load_torch(path: Path, data: bytes) -> Mapping[str, object]:
    """Read the bytes of a PyTorch file: a zip archive, or an older pickle.

    Args:
        path: for messages.
        data: the whole file.

    Returns:
        Its outermost dictionary. Objects of the user's own classes are left out, and one line of the log names them.

    Raises:
        CheckpointError: the file is damaged, holds no dictionary, holds nothing but pickled objects, or
            loading it would run code.
    """
    skipped: list[str] = []
    try:
        found = _load(data, {})
    except Exception as first:  # a broken pickle or zip makes torch raise errors of many types
        names = list(_globals(data))
        _refuse_code(path, names)
        try:
            found, skipped = _load_around(data, names)
        except Exception as error:
            raise CheckpointError(f"{path}: {_why(str(error), str(first))}") from error
    if isinstance(found, _Skipped) or (not isinstance(found, Mapping) and skipped):
        raise CheckpointError(f"{path}: {_pickled(skipped)}")
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{path}: holds a {type(found).__name__}, not a state dict: {STATE_DICT_ONLY}")
    if skipped and not _has_tensors(found):
        raise CheckpointError(f"{path}: {_pickled(skipped)}")
    if skipped:
        others = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        _log.warning(
            "%s: read the tensors, and skipped objects that only their own code can load: %s%s",
            path,
            ", ".join(map(_shown, skipped[:3])),
            others,
        )
    return {str(key): value for key, value in found.items() if not isinstance(value, _Skipped)}


def _load(data: bytes, safe: Mapping[str, type]) -> object:
    with _loading, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about old storage classes; the user can do nothing about them
        with torch.serialization.safe_globals([(kind, name) for name, kind in safe.items()]):
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _load_around(data: bytes, names: list[str]) -> tuple[object, list[str]]:
    """What the file holds, with stand-ins for these names, and those of them that deserve a word."""
    shapes = {name: _shape(name) for name in names}
    for _ in range(len(names) + 1):
        safe = {name: _stand_in(name, shape) for name, shape in shapes.items()}
        try:
            found = _load(data, safe)
        except pickle.UnpicklingError as error:
            # "Can only SETITEM for dict, …, but got <class …>": the stand-in of a user's own dictionary or list
            wanted = list if re.search(r"append|extend", str(error)) else OrderedDict
            changed = [name for name, kind in safe.items() if repr(kind) in str(error)]
            if not changed:
                raise
            shapes |= dict.fromkeys(changed, wanted)
        else:
            return found, [
                name for name in names if name.partition(".")[0] not in PLAIN_MODULES and not _of_torch(name)
            ]
    raise pickle.UnpicklingError("no stand-in fits")


def _shape(name: str) -> type:
    return OrderedDict if name in DICTIONARIES else list if name in LISTS else _Skipped


def _stand_in(name: str, shape: type) -> type:
    """A class of that name, whose instances are inert, or a plain dictionary or list."""
    if shape is _Skipped:
        return type(name, (_Skipped,), {"__module__": "skipped"})

    def make(cls: type, *args: object, **named: object) -> Any:
        return shape()

    return type(name, (), {"__module__": "skipped", "__new__": make})


def _globals(data: bytes) -> Iterator[str]:
    """The names, with their modules, that the pickles in a file ask for and that torch does not know by itself."""
    known = torch._weights_only_unpickler._get_allowed_globals()
    found: dict[str, None] = {}  # in the order of the file
    for stream in _pickles(data):
        try:
            while True:  # an older file is several pickles, one after the other, and then the tensors
                before = stream.tell()
                texts = ["", ""]
                for opcode, argument, _ in pickletools.genops(stream):
                    if opcode.name == "GLOBAL" and isinstance(argument, str):
                        found[_today(*argument.split(" ", 1))] = None
                    elif opcode.name == "STACK_GLOBAL":  # of protocol 4, which torch.load refuses
                        found[_today(*texts)] = None
                    elif isinstance(argument, str):
                        texts = [texts[1], argument]
                if stream.tell() == before:
                    break
        except Exception:  # the tensors of an older file, which are no pickle, or damage, which torch.load reports
            continue
    yield from (name for name in found if name not in known)


def _today(module: str, name: str = "") -> str:
    """The full name in Python 3 of what a pickle may call by its name in Python 2."""
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"


def _pickles(data: bytes) -> Iterator[io.BytesIO]:
    if not data.startswith(ZIP):
        yield io.BytesIO(data)
        return
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                if name.endswith("data.pkl"):
                    yield io.BytesIO(archive.read(name))
    except Exception:  # damage, which torch.load reports
        return


def _refuse_code(path: Path, names: list[str]) -> None:
    for name in names:
        if name in CODE or name.partition(".")[0] in CODE_MODULES:
            raise CheckpointError(
                f"{path}: refused, because loading it would run code ({_shown(name)}): {STATE_DICT_ONLY}"
            )


def _shown(name: str) -> str:
    """A name out of a file, as it may be printed."""
    return name[:100].encode("ascii", "backslashreplace").decode() if name[:100].isprintable() else ascii(name[:100])


def _of_torch(name: str) -> bool:
    """Whether it is torch's own, and no network: optimisers, schedulers, functions."""
    return name.startswith("torch.") and not name.startswith("torch.nn.modules.")


def _has_tensors(found: object, depth: int = 6) -> bool:
    if isinstance(found, torch.Tensor):
        return True
    return depth > 0 and isinstance(found, Mapping) and any(_has_tensors(item, depth - 1) for item in found.values())


def _pickled(skipped: list[str]) -> str:
    own = [name for name in skipped if not name.startswith("torch.nn.")] or skipped or ["an unknown class"]
    return f"holds a pickled object ({_shown(own[0])}), which only its own code can load: {STATE_DICT_ONLY}"


def _why(message: str, first: str) -> str:
    """The errors of ``torch.load``, which have many lines, in one."""
    if "TorchScript" in message + first:
        return f"a TorchScript archive, which holds code, not weights: {STATE_DICT_ONLY}"
    named = re.search(r"GLOBAL ([\w.]+)", message)
    if named is not None:
        return f"refused, because loading it would run code ({named.group(1)}): {STATE_DICT_ONLY}"
    if "Unsupported operand" in message:
        return (
            "a pickle of another protocol than PyTorch writes, which cannot be read safely: load it where it was made "
            "and save it with torch.save(STATE_DICT, FILE)"
        )
    if "Unsupported" in message or "not allowed" in message or "Can only" in message:
        return f"refused, because loading it would run code: {STATE_DICT_ONLY}"
    return "truncated or damaged: download or copy it again"
