"""The journal of a run whose inputs or output are URLs: one object in the folder of the results. Imports no torch.

Object stores cannot append, so the journal is written as a whole: once before the first result, with a line for each
result that the run is going to make, and once at the end. A result that is there after an interruption, and was not
there when its line was written, is therefore known to be complete and by gankit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from gankit.pipeline.journal import plain_json
from gankit.pipeline.resume import Decision
from gankit.pipeline.targets import Job
from gankit.storage.claims import locked
from gankit.storage.stores import Store, write_bytes
from gankit.version import __version__

NAME = ".gankit-objects.jsonl"


@dataclass(frozen=True)
class Line:
    """One line of the journal. States are those of :attr:`gankit.storage.stores.Object.state`.

    Attributes:
        result: name of the result, relative to the folder of the journal.
        source: URL or path of the source.
        source_state: state of the source when the run listed it.
        model: sha256 of the weights, hexadecimal.
        options: options that determine the result and are not at their defaults.
        made_by: what made the result, which is recorded and not compared.
        before: state of the object that the result replaces; ``None`` if there was none.
        written: state of the result; ``None`` before it is written.
    """

    result: str
    source: str
    source_state: str
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    made_by: Mapping[str, Any] = field(default_factory=dict)
    before: str | None = None
    written: str | None = None


class ObjectJournal:
    """The journal of one output.

    Args:
        store: the folder of the results.
        scratch: a local folder for temporary copies.
    """

    def __init__(self, store: Store, scratch: Path) -> None:
        self._store, self._scratch = store, scratch
        self._done, self._begun = _read(store)
        self._own: dict[str, Line] = {}

    def decide(
        self, job: Job, line: Line, now: str | None, model: Callable[[], str], *, overwrite: bool = False
    ) -> Decision:
        """Decide about one job.

        Args:
            job: the job.
            line: result, source and options of the job; its ``model`` is not read.
            now: state of the object in the place of the result; ``None`` if there is none.
            model: returns the sha256 of the weights.
            overwrite: whether to replace every result.
        """
        if now is None:
            return Decision(job, "new")
        if overwrite:
            return Decision(job, "again")
        done, begun = self._done.get(line.result), self._begun.get(line.result)
        known = done if done is not None and done.written == now else None
        if known is None and begun is not None and begun.before != now:
            known = begun
        if known is None:
            return Decision(job, "keep")
        if known.model != model():
            return Decision(job, "again", "model")
        if known.options != plain_json(line.options):
            return Decision(job, "again", "option")
        if (known.source, known.source_state) != (line.source, line.source_state):
            return Decision(job, "again", "source")
        version = str(known.made_by.get("gankit", __version__))
        return Decision(job, "skip", older=None if version == __version__ else version)

    def begin(self, lines: list[Line]) -> None:
        """Write that results are about to be made.

        Raises:
            OutputError: If the journal cannot be written.
        """
        self._begun |= {line.result: line for line in lines}
        self._own |= {line.result: line for line in lines}
        self._write()

    def finish(self, result: str, made_by: Mapping[str, Any], written: str | None) -> None:
        """Note that a result was written. :meth:`close` writes it to the journal."""
        line = self._begun.pop(result, None)
        if line is not None and written is not None:
            made = {"gankit": __version__, **made_by}
            self._done[result] = self._own[result] = replace(line, made_by=made, written=written)

    def close(self) -> None:
        """Write the journal.

        Raises:
            OutputError: If it cannot be written.
        """
        self._write()

    def _write(self) -> None:
        with locked(self._store):
            self._merge()

    def _merge(self) -> None:
        done, begun = _read(self._store)  # another run may have added lines
        done |= {name: line for name, line in self._done.items() if name in self._own or name not in done}
        begun |= {name: line for name, line in self._begun.items() if name in self._own or name not in begun}
        finished = {name for name, line in self._own.items() if line.written is not None}
        lines = [*done.values(), *(line for name, line in begun.items() if name not in finished)]
        text = "".join(json.dumps(asdict(line), separators=(",", ":"), default=str) + "\n" for line in lines)
        write_bytes(self._store, NAME, text.encode("ascii"), self._scratch / "journal")


def _read(store: Store) -> tuple[dict[str, Line], dict[str, Line]]:
    """Return the lines of results that were written, and of those that were begun. No journal is an empty one."""
    done: dict[str, Line] = {}
    begun: dict[str, Line] = {}
    for text in (store.read(NAME) or b"").splitlines():
        line = _line(text)
        if line is not None:
            (begun if line.written is None else done)[line.result] = line
    return done, begun


def _line(text: bytes) -> Line | None:
    """Read one line; ``None`` if it is damaged, or of another version of gankit."""
    try:
        content = json.loads(text)
        line = Line(**{item.name: content[item.name] for item in fields(Line)})
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    texts = (line.result, line.source, line.source_state, line.model)
    valid = all(isinstance(each, str) for each in texts) and isinstance(line.options, dict)
    valid = valid and isinstance(line.made_by, dict)
    return line if valid and all(isinstance(each, str | None) for each in (line.before, line.written)) else None
