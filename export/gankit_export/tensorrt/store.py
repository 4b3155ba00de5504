"""Engines on the disk: each beside its manifest, under a name that its content and its machine determine.

A new engine appears whole or not at all, one process builds it while the others wait, and every engine is verified
before it is used.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from gankit_export.files import atomic_path
from gankit_export.manifest import manifest_path, sha256
from gankit_export.tensorrt.build import BuildSettings
from gankit_export.tensorrt.machine import Machine
from gankit_export.tensorrt.profiles import Profile

SUFFIX = ".engine"
_FORMAT = 1


@dataclass(frozen=True)
class EngineFacts:
    """The facts of an engine, which its manifest holds.

    Attributes:
        onnx_sha256: of the ONNX file, with its weights.
        machine: where it was built.
        profiles: shapes that it takes.
        settings: how it was built.
        half_layers: half-precision layers, and all that compute in floating point.
        psnr: worst parity with the fp32 generator in dB; ``None`` if it is in the manifest that contains these facts.
        sha256: of the engine.
    """

    onnx_sha256: str
    machine: Machine
    profiles: tuple[Profile, ...]
    settings: BuildSettings
    half_layers: tuple[int, int]
    psnr: float | None = None
    sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        """As a JSON value."""
        plain = {name: getattr(self, name) for name in ("onnx_sha256", "psnr", "sha256")}
        return {
            **plain,
            "half_layers": list(self.half_layers),
            "machine": dataclasses.asdict(self.machine),
            "settings": dataclasses.asdict(self.settings),
            "profiles": [profile.to_json() for profile in self.profiles],
        }

    @classmethod
    def from_json(cls, content: Any) -> EngineFacts:
        """The facts in a JSON value.

        Raises:
            ValueError: If it has none.
        """
        try:
            half, every = content["half_layers"]
            return cls(
                onnx_sha256=str(content["onnx_sha256"]),
                machine=Machine(**content["machine"]),
                profiles=tuple(map(Profile.from_json, content["profiles"])),
                settings=BuildSettings(**content["settings"]),
                half_layers=(int(half), int(every)),
                psnr=None if content["psnr"] is None else float(content["psnr"]),
                sha256=str(content["sha256"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not the facts of an engine: {error}") from error


def key(onnx_sha256: str, machine: Machine, profiles: Sequence[Profile], settings: BuildSettings) -> str:
    """Return 64 hexadecimal digits that depend on everything that determines an engine."""
    parts = [
        _FORMAT,
        onnx_sha256,
        dataclasses.asdict(machine),
        [profile.to_json() for profile in profiles],
        dataclasses.asdict(settings),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class EngineStore:
    """A folder of engines.

    Args:
        folder: the folder, which is created when an engine is stored.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str, digest: str) -> Path:
        """Return the file of an engine; ``name`` is for people, and ``digest`` is its :func:`key`."""
        return self.folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)[:60]}-{digest}{SUFFIX}"

    def get(
        self,
        name: str,
        digest: str,
        make: Callable[[], tuple[bytes, EngineFacts]],
        notify: Callable[[str], None] | None = None,
    ) -> tuple[bytes, EngineFacts]:
        """Return an engine from the folder, or make and store it.

        Processes that want the same engine wait for the one that builds it. An engine that was changed, or whose
        manifest is missing or belongs to another engine, is deleted, and a line says so.

        Args:
            name: name of the model.
            digest: the :func:`key` of the engine.
            make: builds the engine.
            notify: called with each line to report to the user.

        Raises:
            OSError: If the folder cannot be written.
        """
        path = self.path(name, digest)
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if (found := self._read(path, notify)) is not None:
                return found
            plan, facts = make()
            facts = dataclasses.replace(facts, sha256=hashlib.sha256(plan).hexdigest())
            write(path, plan, facts)
            return plan, facts

    @contextmanager
    def timings(self, machine: Machine) -> Iterator[Path]:
        """Hold the timing cache of a machine, a file that need not exist."""
        digest = hashlib.sha256(json.dumps(dataclasses.asdict(machine), sort_keys=True).encode()).hexdigest()[:32]
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f"timings-{digest}.lock"):
            yield self.folder / f"timings-{digest}.bin"

    def _read(self, path: Path, notify: Callable[[str], None] | None) -> tuple[bytes, EngineFacts] | None:
        try:
            plan = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            content = json.loads(manifest_path(path).read_text(encoding="utf-8"))
            facts = EngineFacts.from_json(content)
            if facts.sha256 == hashlib.sha256(plan).hexdigest():
                with suppress(OSError):
                    os.utime(path)  # the time of the last use
                return plan, facts
            why = "has changed since gankit wrote it"
        except (OSError, ValueError):
            why = "has no manifest that describes it"
        for item in (path, manifest_path(path)):
            with suppress(OSError):
                item.unlink()
        if notify is not None:
            notify(f"{path}: this cached engine {why}; building it again")
        return None


def write(path: Path, plan: bytes, facts: EngineFacts) -> None:
    """Write an engine and its manifest. The manifest comes first, because an engine without one is not used.

    Raises:
        OSError: If they cannot be written.
    """
    with atomic_path(manifest_path(path)) as temporary:
        temporary.write_text(json.dumps(facts.to_json(), indent=2) + "\n", encoding="utf-8")
    with atomic_path(path, suffix=SUFFIX) as temporary:
        temporary.write_bytes(plan)


def verify(path: Path) -> str | None:
    """Return what is wrong with a stored engine; ``None`` if its content is the one that its manifest names."""
    try:
        facts = EngineFacts.from_json(json.loads(manifest_path(path).read_text(encoding="utf-8")))
        return None if sha256(path) == facts.sha256 else "has changed since gankit wrote it"
    except (OSError, ValueError) as error:
        return f"has no manifest that describes it ({error})"
