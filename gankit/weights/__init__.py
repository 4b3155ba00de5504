"""The trained weights that ship with gankit. Importing this package imports no torch.

New weights need a ``.safetensors`` file and its card, a ``.json`` file, in this folder, and one line in ``TRAINED``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = ["DEFAULT_UPSCALER", "DEFAULT_UPSCALER_X2", "TRAINED", "Trained"]

DEFAULT_UPSCALER = "edsr-photo"
"""The weights that `gankit upscale` runs where no others are named."""

DEFAULT_UPSCALER_X2 = "edsr-photo-x2"
"""The weights that it runs where no others are named and no image is to be more than twice as large."""

Task = Literal["upscale", "translate", "generate"]


@dataclass(frozen=True)
class Trained:
    """One line of the table.

    Attributes:
        summary: what the weights do, in a few words.
        task: upscale, translate or generate.
        use: what to take them for.
        limits: what they cannot do, in one sentence.
        data: what they were trained on, in a few words; the card has it in full.
        file: name of the weights file without ``.safetensors``; ``None`` where it is the name of the line. Of a pair
            (``…_G_A`` and ``…_G_B``) it is the one from A to B.
        licence: of the weights.
        faithful: name of the weights from which these were trained adversarially; `--strength` mixes the two.
    """

    summary: str
    task: Task
    use: str
    limits: str
    data: str
    file: str | None = None
    licence: str = "Apache-2.0"
    faithful: str | None = None


_PHOTOGRAPHS = "127 free photographs"
_CLOTHES = "Fashion-MNIST (MIT)"
_NUCLEI = "nuclei of the Data Science Bowl 2018 (CC0)"

TRAINED: Mapping[str, Trained] = MappingProxyType(
    {
        "edsr-photo": Trained(
            "×4 upscaling of photographs, also JPEG and noise",
            "upscale",
            "Photographs as cameras, phones and web sites store them (the default), at the least cost",
            "Softer than edsr-sharp",
            "165 free photographs",
        ),
        "edsr-sharp": Trained(
            "×4 upscaling of photographs, also JPEG and noise, sharp to the eye",
            "upscale",
            "Photographs, sharper than edsr-photo at the same cost; --strength 0.5 is between the two",
            "Invents some texture",
            "165 free photographs",
            faithful="edsr-photo",
        ),
        "edsr-photo-x2": Trained(
            "×2 upscaling of photographs, also JPEG and noise",
            "upscale",
            "Photographs twice as large: the default of gankit upscale for --scale 2 and less",
            "Softer than edsr-x2 on clean images",
            "165 free photographs",
        ),
        "edsr-x2": Trained(
            "×2 upscaling, faithful",
            "upscale",
            "Clean images, twice as large",
            "Takes JPEG blocks and noise for detail",
            "165 free photographs",
        ),
        "edsr": Trained(
            "×4 upscaling, faithful, at a third of the arithmetic of srresnet",
            "upscale",
            "Clean images, faithful and fast",
            "Takes JPEG blocks and noise for detail",
            "165 free photographs",
        ),
        "srgan": Trained(
            "×4 upscaling, sharp texture",
            "upscale",
            "Clean images, sharp to the eye; --strength 0.5 invents less",
            "Invents texture, and takes JPEG blocks and noise for detail",
            _PHOTOGRAPHS,
            faithful="srresnet",
        ),
        "srresnet": Trained(
            "×4 upscaling, faithful",
            "upscale",
            "Clean images, faithful",
            "Takes JPEG blocks and noise for detail",
            _PHOTOGRAPHS,
        ),
        "gan": Trained(
            "clothes, 28×28 gray, dense layers",
            "generate",
            "Trying the plain GAN",
            "Dense layers leave speckles",
            _CLOTHES,
        ),
        "cgan": Trained(
            "clothes of a class, 28×28 gray (generate --class 0 to 9)",
            "generate",
            "Clothes of a class: --class 0 to 9",
            "Sandals are the worst",
            _CLOTHES,
        ),
        "dcgan": Trained(
            "clothes, 28×28 gray, convolutions",
            "generate",
            "The best images",
            "One image in ten shows nothing that has a name",
            _CLOTHES,
        ),
        "wgan-gp": Trained(
            "clothes, 28×28 gray, DCGAN trained by a gradient penalty",
            "generate",
            "Trying Wasserstein's loss",
            "One image in eight shows nothing that has a name",
            _CLOTHES,
        ),
        "vae": Trained(
            "clothes, 28×28 gray; paths and reconstructions",
            "generate",
            "Paths between images, reconstructions",
            "Smooth: prints and laces are lost",
            _CLOTHES,
        ),
        "nuclei-masks": Trained(
            "stained tissue to the mask of its nuclei (pix2pix)",
            "translate",
            "Finding nuclei in stained tissue (pix2pix)",
            "Touching nuclei are not separated; not for diagnosis",
            _NUCLEI,
        ),
        "nuclei-tissue": Trained(
            "mask of nuclei to stained tissue (pix2pix)",
            "translate",
            "Stained tissue from a mask of nuclei (pix2pix)",
            "Mostly violet; shows no real patient",
            _NUCLEI,
        ),
        "nuclei-stain": Trained(
            "fluorescence (A) <-> stained tissue (B) (cyclegan)",
            "translate",
            "Fluorescence to stained tissue, and with --direction BtoA back (cyclegan)",
            "Violet whatever the stain was; not for diagnosis",
            _NUCLEI,
            "nuclei-stain_G_A",
        ),
    }
)
