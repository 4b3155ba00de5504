"""What a step finds, written after every figure: a step that is killed leaves what it had."""

from __future__ import annotations

import json
import math
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        case: what was done, such as a model and a size.
        variant: in which way.
        metric: what was measured, with its unit.
        value: the figure; ``None`` where there is none.
        note: why not, or a remark.
    """

    case: str
    variant: str
    metric: str
    value: float | str | None
    note: str = ""


class Report:
    """The JSON of one step.

    Args:
        path: of the file.
        step: name of the step.
        limit: seconds from now until the step is ended.

    Attributes:
        facts: what else is worth keeping, such as the output of a command.
    """

    def __init__(self, path: Path, step: str, limit: float = math.inf) -> None:
        self.facts: dict[str, Any] = {}
        self._end = time.monotonic() + limit
        self._path, self._step = path, step
        self._figures: list[Figure] = []
        self._missing: list[str] = []
        self._error = ""
        self._lock = Lock()  # jobs may run side by side

    def add(self, case: str, variant: str, metric: str, value: float | str | None, note: str = "") -> None:
        """Keep a figure."""
        if isinstance(value, float) and not math.isfinite(value):
            value = str(value)  # JSON has no infinity
        self._figures.append(Figure(case, variant, metric, value, note))
        self.write()

    def has_time(self, seconds: float, case: str, variant: str = "") -> bool:
        """Whether the limit leaves enough seconds for a case. If not, a figure without a value says so."""
        left = self._end - time.monotonic()
        if left < seconds:
            self.add(
                case, variant, "left out", None, f"it may take {seconds:.0f} s, and {max(0.0, left):.0f} s are left"
            )
        return left >= seconds

    @contextmanager
    def attempt(self, case: str, variant: str) -> Iterator[None]:
        """Go on after an error inside, which becomes a figure without a value."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.add(case, variant, "error", None, describe(error))

    def fail(self, error: BaseException) -> None:
        """Keep what ended the step; a missing module is named."""
        if isinstance(error, ModuleNotFoundError) and error.name:
            self._missing.append(error.name)
        self._error = describe(error)
        self.write()

    def write(self) -> None:
        """Write the file, whole."""
        with self._lock:
            content = {
                "step": self._step,
                "error": self._error,
                "missing": self._missing,
                "facts": dict(self.facts),
                "figures": [asdict(figure) for figure in self._figures],
            }
            temporary = self._path.with_suffix(".part")
            temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            temporary.replace(self._path)


def describe(error: BaseException) -> str:
    """Kind and first line of an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
