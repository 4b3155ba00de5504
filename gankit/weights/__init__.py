"""The trained weights that ship with gankit. Importing this package imports no torch.

New weights need a ``.safetensors`` file and its card, a ``.json`` file, in this folder, and one line in ``TRAINED``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["TRAINED", "Trained"]


@dataclass(frozen=True)
class Trained:
    """One line of the table.

    Attributes:
        summary: what the weights do, in a few words.
        file: name of the weights file without ``.safetensors``; ``None`` where it is the name of the line. Of a pair
            (``…_G_A`` and ``…_G_B``) it is the one from A to B.
    """

    summary: str
    file: str | None = None


TRAINED: Mapping[str, Trained] = MappingProxyType(
    {
        "srgan": Trained("×4 upscaling, sharp texture"),
        "srresnet": Trained("×4 upscaling, faithful"),
        "gan": Trained("clothes, 28×28 gray, dense layers"),
        "cgan": Trained("clothes of a class, 28×28 gray (generate --class 0 to 9)"),
        "dcgan": Trained("clothes, 28×28 gray, convolutions"),
        "wgan-gp": Trained("clothes, 28×28 gray, DCGAN trained by a gradient penalty"),
        "vae": Trained("clothes, 28×28 gray; paths and reconstructions"),
        "nuclei-masks": Trained("stained tissue to the mask of its nuclei (pix2pix)"),
        "nuclei-tissue": Trained("mask of nuclei to stained tissue (pix2pix)"),
        "nuclei-stain": Trained("fluorescence (A) <-> stained tissue (B) (cyclegan)", "nuclei-stain_G_A"),
    }
)
