"""gankit: run trained GAN generators over real images, fast and proven.

What most programs need::

    import gankit

    generator = gankit.load("srgan")                       # a torch nn.Module
    upscaler = gankit.Upscaler("srgan", backend="auto")
    big = upscaler(image)                                  # a Pillow image, array, tensor or path, or a list of them
    upscaler.run(["photos/"], "upscaled/")

    mine = gankit.Upscaler(my_module, scale=4, value_range=(0, 1))   # any nn.Module of your own

Every error that gankit raises on purpose is a :class:`GankitError`.

Importing gankit imports no torch; the first use of one of these names does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gankit.errors import (
    BackendError,
    CheckpointError,
    FactsError,
    ForkedError,
    GankitError,
    ImageError,
    ImageMemoryError,
    NoMemoryError,
    NotFiniteError,
    OutputError,
    ParityError,
    UsageError,
)
from gankit.version import __version__

if TYPE_CHECKING:
    from gankit.checkpoints import load
    from gankit.models.facts import Facts
    from gankit.options import EngineOptions
    from gankit.pipeline.exporting import export
    from gankit.pipeline.sampler import Sampler
    from gankit.pipeline.translator import Translator
    from gankit.pipeline.upscaler import Upscaler

__all__ = [
    "BackendError",
    "CheckpointError",
    "EngineOptions",
    "Facts",
    "FactsError",
    "ForkedError",
    "GankitError",
    "ImageError",
    "ImageMemoryError",
    "NoMemoryError",
    "NotFiniteError",
    "OutputError",
    "ParityError",
    "Sampler",
    "Translator",
    "Upscaler",
    "UsageError",
    "__version__",
    "export",
    "load",
]

_HOMES = {
    "EngineOptions": "gankit.options",
    "Facts": "gankit.models.facts",
    "Sampler": "gankit.pipeline.sampler",
    "Translator": "gankit.pipeline.translator",
    "Upscaler": "gankit.pipeline.upscaler",
    "export": "gankit.pipeline.exporting",
    "load": "gankit.checkpoints",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'gankit' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
