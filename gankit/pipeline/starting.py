"""What is checked before an engine starts. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from gankit.memory import available_memory, require, size
from gankit.options import EngineOptions

if TYPE_CHECKING:
    from gankit.models.facts import Facts
    from gankit.pipeline.processor import Processor

Notify = Callable[[str], None]
_LEAST_MEMORY = "eager"  # the backend that needs the least memory: it exports nothing, and streams images


def affordable(options: EngineOptions, facts: Facts, notify: Notify | None) -> EngineOptions:
    """Check that there is memory to load an engine and to check its parity; without much, do not compare engines.

    Args:
        options: the options that the user chose.
        facts: facts of the generator.
        notify: called with a line if the engines are not compared.

    Returns:
        The options, with another backend if the engines are not compared.

    Raises:
        NoMemoryError: If there is not enough for any engine.
    """
    from gankit.pipeline.workspace import start_bytes

    advice = "free some memory" if options.max_memory is None else "use a larger --max-memory"
    require(start_bytes(facts), f"an engine for '{facts.name}'", advice, options.max_memory)
    room, needed = available_memory(options.max_memory), start_bytes(facts, export=True)
    if options.backend != "auto" or options.device.startswith("cuda") or room >= needed:
        return options
    if notify is not None and facts.task != "generate":
        why = f"{size(room)} of memory are available, and comparing backends takes about {size(needed)}"
        notify(f"{why}; using {_LEAST_MEMORY}")
    return replace(options, backend=_LEAST_MEMORY)


def check_tile(processor: Processor, options: EngineOptions, notify: Notify | None) -> None:
    """Refuse a tile that is too small for the halo, and report options that the engine does not use.

    Raises:
        UsageError: If the tile is too small.
    """
    from gankit.pipeline.tiles import plan

    if processor.engine.wants == "images":
        chosen = {"tile": options.tile, "batch": options.batch}
        given = [f"--{name}" for name, value in chosen.items() if value != "auto"]
        if given and notify is not None:
            notify(f"{processor.engine.backend} runs whole images here and ignores {' and '.join(given)}")
    elif isinstance(options.tile, int):
        step = processor.facts.multiple
        longer = (options.tile // step + 2) * step
        plan(longer, longer, options.tile, processor.halo, step)  # raises
