"""The key layouts of weights files: the architecture of a state dict is recognised by its names and shapes alone.

A new layout needs its own file in this folder, with a function ``match``, and one line in ``_LAYOUTS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from gankit.checkpoints.containers import networks
from gankit.checkpoints.layouts import (
    animegan,
    cartoongan,
    edsr,
    eriklindernoren,
    fast_srgan,
    junyanz_resnet,
    junyanz_unet,
    latents,
    leftthomas,
    lornatang,
    mnist_cwgan_gp,
    mnist_gan_mlp,
    mnist_vae,
    msrresnet,
    pytorch_dcgan,
    pytorch_gan,
    rrdb,
    sgrvinod,
    srresnet,
    srvgg,
)
from gankit.checkpoints.layouts.base import Layout, Match
from gankit.errors import CheckpointError

__all__ = ["Layout", "Match", "recognise"]

_LAYOUTS: tuple[Layout, ...] = (
    Layout("gankit SRResNet", srresnet.match),
    Layout("Lornatang SRGAN-PyTorch", lornatang.match),
    Layout("leftthomas SRGAN", leftthomas.match),
    Layout("eriklindernoren SRGAN", eriklindernoren.srgan),
    Layout("eriklindernoren ESRGAN", eriklindernoren.esrgan),
    Layout("sgrvinod SRGAN", sgrvinod.match),
    Layout("HasnainRaz Fast-SRGAN", fast_srgan.match),
    Layout("xinntao and BasicSR RRDBNet (ESRGAN, Real-ESRGAN)", rrdb.match),
    Layout("xinntao RRDBNet, first names", rrdb.match_old),
    Layout("sanghyun-son EDSR", edsr.sanghyun_son),
    Layout("BasicSR EDSR", edsr.basicsr),
    Layout("mmagic EDSR", edsr.mmagic),
    Layout("gankit EDSR", edsr.own),
    Layout("MSRResNet of BasicSR, mmagic and KAIR", msrresnet.match),
    Layout("KAIR MSRResNet0", msrresnet.match_numbered),
    Layout("Real-ESRGAN SRVGGNetCompact", srvgg.match),
    Layout("junyanz ResNet (CycleGAN, CUT, GAN Compression)", junyanz_resnet.match),
    Layout("junyanz U-Net (pix2pix)", junyanz_unet.match),
    Layout("bryandlee AnimeGANv2", animegan.match),
    Layout("Yijunmaverick CartoonGAN", cartoongan.match),
    Layout("gankit gan", latents.gan),
    Layout("gankit cgan", latents.cgan),
    Layout("gankit vae", latents.vae),
    Layout("pytorch/examples DCGAN", pytorch_dcgan.match),
    Layout("pytorch/examples VAE", mnist_vae.match),
    Layout("nn.Sequential of dense layers", mnist_gan_mlp.match),
    Layout("eriklindernoren PyTorch-GAN (dense)", pytorch_gan.match),
    Layout("HayatoHongo conditional WGAN-GP", mnist_cwgan_gp.match),
)


def recognise(state: Mapping[str, Tensor]) -> Match:
    """The model, its options and the weights under gankit's names.

    Args:
        state: tensors by name. Prefixes of a generator are removed where no layout fits the names as they are; other
            networks in the file are then left out.

    Raises:
        CheckpointError: no layout fits; the text shows the first keys and does not name the file.
    """
    for candidate in (state, *(inner for _, inner in networks(state))):
        for layout in _LAYOUTS:
            found = layout.match(candidate)
            if found is not None:
                return replace(found, recognised=f"the names of its tensors: {layout.name}")
    names = list(state)
    shown = ", ".join(f"{name} {list(state[name].shape)}" for name in names[:3])
    raise CheckpointError(
        f"unknown architecture: {len(names)} tensors, first {shown}; "
        f"known layouts are {', '.join(layout.name for layout in _LAYOUTS)}"
    )
