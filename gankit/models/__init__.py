"""The models that gankit knows by name. Importing this package imports no torch.

A new model needs its own file in this folder, with a generator class and a ``facts`` function, and one line in
``_REGISTRY``.
"""

from __future__ import annotations

import inspect
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

__all__ = ["MODELS", "Entry", "Facts", "build", "entry", "facts", "is_known", "known_options", "unknown"]


@dataclass(frozen=True)
class Entry:
    """One line of the registry: the module and class that make a model, and what it does in a few words."""

    module: str
    generator: str
    summary: str


MODELS: Mapping[str, Entry] = MappingProxyType(
    {
        "srgan": Entry("gankit.models.srgan", "SRResNet", "×2/×4/×8 upscaling, sharp texture (adversarial)"),
        "srresnet": Entry("gankit.models.srgan", "SRResNet", "×2/×4/×8 upscaling, faithful (content loss)"),
        "esrgan": Entry("gankit.models.esrgan", "RRDBNet", "×1…×16 upscaling, deep (ESRGAN, Real-ESRGAN)"),
        "srvgg": Entry("gankit.models.srvgg", "SRVGGNet", "×1…×16 upscaling, small, fast (Real-ESRGAN compact)"),
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
        UsageError: for an unknown name; the message has the nearest one.
    """
    try:
        return MODELS[name]
    except KeyError:
        raise unknown(name) from None


def is_known(name: str) -> bool:
    """Whether a name is that of a model, or of weights that ship."""
    return name in MODELS or name in TRAINED


def unknown(name: str) -> UsageError:
    """The error for a name that neither a model nor weights have; it tells the nearest one."""
    near = hint(name, sorted({*MODELS, *TRAINED}))
    return UsageError(f"unknown model '{name}': {near} (a weights file is given by its path)")


def build(name: str, options: Mapping[str, Any] | None = None) -> nn.Module:
    """A generator with fresh weights, in training mode.

    Args:
        name: registry name.
        options: keyword arguments of the generator class.
    """
    line = entry(name)
    generator: nn.Module = getattr(import_module(line.module), line.generator)(**dict(options or {}))
    return generator


def facts(name: str, options: Mapping[str, Any] | None = None) -> Facts:
    """The facts of a model built with ``options``."""
    result: Facts = import_module(entry(name).module).facts(name, **dict(options or {}))
    return result


def known_options(name: str) -> dict[str, Any]:
    """The options that build a model, with their usual values: the arguments of its generator class."""
    line = entry(name)
    signature = inspect.signature(getattr(import_module(line.module), line.generator))
    return {parameter.name: parameter.default for parameter in signature.parameters.values()}
