"""Who takes part in a comparison, and what each is asked to do."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.baselines import BASELINES, PACKAGES
from bench.common import EAGER, ONNXRUNTIME, engines, export_once

if TYPE_CHECKING:
    from gankit.checkpoints import Loaded


@dataclass(frozen=True)
class Candidate:
    """One that is compared.

    Attributes:
        kind: ``"plain"``, a baseline; ``"gankit"``, an engine; ``"command"``, gankit's command line.
        backend: gankit's, or ``"auto"``; of a baseline, its name.
        precision: that it is asked for; a baseline chooses by itself.
        device: likewise.
    """

    kind: Literal["plain", "gankit", "command"]
    backend: str
    precision: str = "auto"
    device: str = "auto"

    @property
    def label(self) -> str:
        """As the table names it, without precision and device."""
        return {"plain": self.backend, "gankit": f"gankit {self.backend}", "command": "gankit, the command"}[self.kind]

    def __str__(self) -> str:
        words = () if self.kind != "gankit" or self.backend == "auto" else (self.precision, self.device)
        return " ".join((self.label, *words))


@dataclass(frozen=True)
class Work:
    """What a worker process is asked to do; it travels as JSON.

    Attributes:
        candidate: who does it.
        model: the generator's name or weights file.
        onnx: the file that the exporter made of the plain generator, for the baselines.
        task: ``"upscale"`` or ``"translate"``.
        value_range: of the generator.
        side: of the square tile; 0 for a folder.
        sources: the images of the folder.
        output: folder for the results.
    """

    candidate: Candidate
    model: str
    onnx: str
    task: str
    value_range: tuple[float, float]
    side: int = 0
    sources: tuple[str, ...] = ()
    output: str = ""

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Work:
        """What :meth:`to_json` wrote."""
        found: dict[str, Any] = json.loads(line)
        found["candidate"] = Candidate(**found["candidate"])
        found["value_range"], found["sources"] = tuple(found["value_range"]), tuple(found["sources"])
        return cls(**found)


@dataclass(frozen=True)
class Subject:
    """The generator that a comparison runs, ready for all candidates.

    Attributes:
        loaded: generator and facts.
        model: its name or weights file.
        folder: where its plain ONNX file is exported to, once.
    """

    loaded: Loaded
    model: str
    folder: Path

    @property
    def name(self) -> str:
        """As the table names it."""
        return Path(self.model).stem

    def work(self) -> Work:
        """The part that all works of this generator share; exports what the candidates read, at the first call."""
        facts = self.loaded.facts
        onnx = self.folder / f"{self.name}.onnx"
        if not onnx.exists():
            from gankit_export.onnx import export_onnx

            export_onnx(self.loaded.generator, onnx, channels=facts.channels, multiple=facts.multiple)
            export_once(self.loaded.generator, facts)
        nobody = Candidate("plain", EAGER)
        return Work(nobody, self.model, str(onnx), facts.task, facts.value_range)


def candidates_of(loaded: Loaded, *, every: bool, folder: bool, named: str = "") -> list[Candidate]:
    """The candidates of one comparison, plain PyTorch first: the others are compared with its images.

    Args:
        loaded: generator and facts.
        every: all baselines, backends and precisions; otherwise the fastest of each.
        folder: it is about a folder, so ``auto`` and the command line take part, too.
        named: parts of names, separated by commas: only those candidates, and plain PyTorch. Empty for all.
    """
    plain = [name for name in BASELINES if find_spec(PACKAGES[name]) is not None]
    if folder and not every:
        plain.remove(ONNXRUNTIME) if ONNXRUNTIME in plain else None
    found = [Candidate("plain", name) for name in plain]
    if folder:
        found += [Candidate("gankit", "auto")]
    found += [Candidate("gankit", *item) for item in engines(loaded, every=every)]
    if folder:
        found += [Candidate("command", "auto")]
    words = [word.strip().lower() for word in named.split(",") if word.strip()]
    return [item for item in found if not words or item.label == EAGER or any(w in str(item).lower() for w in words)]


def works(subject: Subject, candidates: list[Candidate], **what: Any) -> list[Work]:
    """What each candidate is asked to do.

    Args:
        subject: the generator.
        candidates: who takes part.
        what: ``side``, or ``sources`` and ``output``, below which each gets a folder of its own.
    """
    shared = replace(subject.work(), **what)
    return [
        replace(shared, candidate=item, output=str(Path(shared.output) / str(index)) if shared.output else "")
        for index, item in enumerate(candidates)
    ]
