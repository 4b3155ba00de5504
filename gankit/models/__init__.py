"""The models that gankit knows by name. Importing this package imports no torch.

A new model touches two files. Its own one in this folder has a frozen dataclass of options
(:class:`gankit.models.options.ModelOptions`), which gives the facts, and a generator, an ``nn.Module`` that is
constructed from these options and names their class as its attribute ``Options``. This one gets a line in ``MODELS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from gankit.errors import UsageError, hint
from gankit.models.facts import Facts
from gankit.weights import TRAINED

if TYPE_CHECKING:
    from torch import nn

    from gankit.models.options import ModelOptions

__all__ = [
    "MODELS",
    "Entry",
    "Facts",
    "build",
    "entry",
    "facts",
    "is_known",
    "known_options",
    "options_of",
    "unknown",
]


@dataclass(frozen=True)
class Entry:
    """One line of the registry.

    Attributes:
        module: dotted name of the module that has the generator.
        generator: name of the generator's class, whose attribute ``Options`` is the class of its options.
        summary: what the model does, in a few words.
    """

    module: str
    generator: str
    summary: str


MODELS: Mapping[str, Entry] = MappingProxyType(
    {
        "srgan": Entry("gankit.models.srgan", "SRResNet", "×2/×4/×8 upscaling, sharp texture (adversarial)"),
        "srresnet": Entry("gankit.models.srgan", "SRResNet", "×2/×4/×8 upscaling, faithful (content loss)"),
        "esrgan": Entry("gankit.models.esrgan", "RRDBNet", "×1…×16 upscaling, deep (ESRGAN, Real-ESRGAN)"),
        "srvgg": Entry("gankit.models.srvgg", "SRVGGNet", "×1…×16 upscaling, small, fast (Real-ESRGAN compact)"),
        "edsr": Entry("gankit.models.edsr", "EDSR", "×1…×8 upscaling, plain residual blocks (EDSR)"),
        "msrresnet": Entry(
            "gankit.models.msrresnet", "MSRResNet", "×2…×8 upscaling without norms (BasicSR, mmagic, KAIR)"
        ),
        "msrresnet0": Entry("gankit.models.msrresnet", "MSRResNet0", "×2…×8 upscaling without norms (KAIR's first)"),
        "fast_srgan": Entry("gankit.models.fast_srgan", "FastSRGAN", "×2/×4/×8 upscaling, small kernels (Fast-SRGAN)"),
        "cyclegan": Entry("gankit.models.cyclegan", "ResNetGenerator", "unpaired translation (CycleGAN, CUT)"),
        "pix2pix": Entry("gankit.models.pix2pix", "UNetGenerator", "paired translation and segmentation (U-Net)"),
        "animegan": Entry("gankit.models.animegan", "AnimeGenerator", "photo to anime (AnimeGANv2)"),
        "cartoongan": Entry("gankit.models.cartoongan", "CartoonGenerator", "photo to cartoon (CartoonGAN)"),
        "gan": Entry("gankit.models.gan", "Generator", "images from noise, dense layers (GAN)"),
        "cgan": Entry("gankit.models.cgan", "Generator", "images from noise and a class, dense or convolved"),
        "dcgan": Entry("gankit.models.dcgan", "Generator", "images from noise, convolutions (DCGAN)"),
        "vae": Entry("gankit.models.vae", "VAE", "images from noise, and reconstructions (VAE)"),
    }
)


def entry(name: str) -> Entry:
    """The registry line of a model.

    Raises:
        UsageError: there is no such model; the error has the nearest name.
    """
    try:
        return MODELS[name]
    except KeyError:
        raise unknown(name) from None


def is_known(name: str) -> bool:
    """Whether a model, or weights that ship, have this name."""
    return name in MODELS or name in TRAINED


def unknown(name: str) -> UsageError:
    """The error for a name that neither a model nor weights have, with the nearest known name."""
    near = hint(name, sorted({*MODELS, *TRAINED}))
    return UsageError(f"unknown model '{name}': {near} (give the path of a file to use your own weights)")


def build(name: str, options: Mapping[str, Any] | None = None) -> nn.Module:
    """A generator with fresh weights, in training mode.

    Args:
        name: registry name.
        options: of the model by name; those that are not given have their defaults.

    Raises:
        UsageError: there is no such model.
        TypeError: the model has no such option.
        ValueError: an option has a value that is not allowed.
    """
    kind = _generator(name)
    generator: nn.Module = kind(kind.Options.from_mapping(name, options or {}))
    return generator


def facts(name: str, options: Mapping[str, Any] | None = None) -> Facts:
    """The facts of the model that :func:`build` makes of the same arguments.

    Raises:
        UsageError: there is no such model.
        TypeError: the model has no such option.
        ValueError: an option has a value that is not allowed.
    """
    return options_of(name).from_mapping(name, options or {}).facts(name)


def options_of(name: str) -> type[ModelOptions]:
    """The dataclass of a model's options.

    Raises:
        UsageError: there is no such model.
    """
    kind: type[ModelOptions] = _generator(name).Options
    return kind


def known_options(name: str) -> dict[str, Any]:
    """The options of a model by name, with their defaults.

    Raises:
        UsageError: there is no such model.
    """
    return {info.name: info.default for info in options_of(name).described()}


def _generator(name: str) -> Any:
    """The class of a model's generator."""
    line = entry(name)
    return getattr(import_module(line.module), line.generator)
