"""The result of loading a weights file. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gankit.models.deferred import Deferred
from gankit.models.facts import Facts

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Loaded:
    """A generator with its weights.

    Attributes:
        module: the generator, fp32, eval mode, on the CPU, no gradients; or how to load it, if only its facts were
            needed so far.
        facts: of the generator.
        sha256: of the weights file, hexadecimal.
        path: the weights file.
        recognised: by what its model was recognised, in a few words; empty for a module.
        assumed: what the file does not tell and was assumed, in a few words; empty where nothing was.
    """

    module: nn.Module | Deferred[nn.Module]
    facts: Facts
    sha256: str
    path: Path
    recognised: str = ""
    assumed: str = ""

    @property
    def generator(self) -> nn.Module:
        """The generator, which the first use may have to load."""
        return self.module.get() if isinstance(self.module, Deferred) else self.module
