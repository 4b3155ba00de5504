"""An engine that is ready to run, and its description in reports and journals. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gankit.options import EngineOptions
from gankit.pipeline.report import EngineReport

if TYPE_CHECKING:
    from gankit.backends.base import Engine
    from gankit.backends.choice.select import Selection
    from gankit.pipeline.processor import Processor


@dataclass(frozen=True)
class Ready:
    """An engine with its processor, and the seconds it took to start."""

    selection: Selection
    processor: Processor
    seconds: float


def engine_report(ready: Ready | None, options: EngineOptions) -> EngineReport | None:
    """Describe an engine for the report of a run; ``None`` if there is none.

    Args:
        ready: the engine.
        options: the options that the user chose.
    """
    if ready is None:
        return None
    engine, parity = ready.selection.engine, ready.selection.parity
    return EngineReport(
        backend=engine.backend,
        precision=engine.precision,
        device=engine.device,
        tile="streamed" if engine.wants == "images" else options.tile,
        batch=options.batch,
        parity_db=parity.psnr if parity else None,
        parity_max_abs=parity.max_abs if parity else None,
        start_seconds=ready.seconds,
        summary=ready.selection.summary,
    )


def made_by(engine: Engine, options: EngineOptions) -> dict[str, Any]:
    """Describe for the journal what ran one image, including what ``"auto"`` became.

    Args:
        engine: the engine.
        options: the options that the user chose.
    """
    from gankit.backends.choice.machine import threads

    return {
        "backend": engine.backend,
        "precision": engine.precision,
        "device": engine.device,
        "tile": "streamed" if engine.wants == "images" else options.tile,
        "threads": options.threads or threads(),
    }
