"""Start an engine, and what is checked before. Imports torch only if the engine or its choice needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

from gankit.memory import available_memory, require, size
from gankit.options import EngineOptions
from gankit.pipeline.opened import Opened
from gankit.pipeline.ready import Ready

if TYPE_CHECKING:
    from gankit.backends.choice.select import Selection
    from gankit.checkpoints.types import Loaded
    from gankit.models.facts import Facts
    from gankit.pipeline.processor import Processor

Notify = Callable[[str], None]
_ENGINE_FILES = (".engine", ".pt2", ".param")
_LEAST_MEMORY = "eager"  # the backend that needs the least memory: it exports nothing, and streams images


def start(
    opened: Opened,
    asked: EngineOptions,
    options: EngineOptions,
    *,
    began: float,
    job_pixels: int | None,
    whole_job: bool,
    notify: Notify | None,
) -> Ready:
    """Choose and load an engine, and make its processor.

    Args:
        opened: the model.
        asked: the options that the user chose.
        options: those for this engine, of which some may be fixed.
        began: when the start began, by ``perf_counter``.
        job_pixels: number of input pixels of the whole job, if known.
        whole_job: as for :func:`~gankit.backends.choice.select.select`.
        notify: called with each line to report to the user.

    Raises:
        UsageError: If the tile is too small for the halo.
        BackendError, CheckpointError, ParityError: If no engine can run the model.
    """
    from gankit.backends.choice.select import select
    from gankit.pipeline.int8_files import int8_file, lossy
    from gankit.pipeline.processor import Processor
    from gankit.pipeline.translation import TranslationProcessor

    loaded, facts = opened.loaded, opened.loaded.facts
    options = affordable(options, facts, notify)
    selection = _engine_file(loaded, options, notify)
    if selection is None:
        int8 = int8_file(loaded, options, notify)
        selection = select(loaded, options, job_pixels=job_pixels, whole_job=whole_job, notify=notify, quantised=int8)
    if selection.engine.precision == "int8" and notify is not None:
        notify(lossy(selection, loaded))
    opened.describe()
    kind = TranslationProcessor if facts.task == "translate" else Processor
    tile = options.tile
    if tile == "auto" and facts.tileable and selection.engine.tile is not None:
        tile = selection.engine.tile
    processor = kind(selection.engine, facts, opened.halo, tile, options.batch, max_memory=options.max_memory)
    check_tile(processor, asked, notify)
    return Ready(selection, processor, perf_counter() - began)


def check_backend(loaded: Loaded, options: EngineOptions) -> None:
    """Check that an engine can run here, before anything is written.

    Raises:
        UsageError, BackendError: If no engine can run the model.
    """
    from gankit.backends.choice.select import check

    if loaded.path.suffix.lower() in _ENGINE_FILES:
        from gankit.backends.choice.engine_file import spec_of_file

        if spec_of_file(loaded, options) is not None:
            return
    if options.precision == "int8":
        from gankit.pipeline.int8_files import check_int8

        check_int8(loaded, options)
    check(loaded, options)


def _engine_file(loaded: Loaded, options: EngineOptions, notify: Notify | None) -> Selection | None:
    """Return the engine of an engine file; ``None`` if the model is anything else."""
    if loaded.path.suffix.lower() not in _ENGINE_FILES:
        return None
    from gankit.backends.choice.engine_file import select_file

    return select_file(loaded, options, notify)


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
    on_gpu = options.device.startswith("cuda") or options.device == "all"
    if (options.backend, options.precision == "int8") != ("auto", False) or on_gpu:
        return options
    if room >= needed:
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
