"""Small images to translate, and small nets."""

import numpy as np
import torch
from PIL import Image

from gankit.training.fabric import fabric_for
from gankit.training.systems.cyclegan import CycleGAN, CycleGANOptions
from gankit.training.systems.pix2pix import Pix2Pix, Pix2PixOptions

UNET = {"channels": 4, "downs": 3}
RESNET = {"channels": 4, "blocks": 1}
NARROW = {"discriminator_channels": 4, "discriminator_layers": 1}


def blobs(seed, size=(40, 48)):
    """A mask of discs: (H, W) uint8, 0 and 255."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    mask = np.zeros(size, bool)
    for _ in range(6):
        top, left, radius = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(4, 8)
        mask |= (y - top) ** 2 + (x - left) ** 2 < radius**2
    return (mask * 255).astype(np.uint8)


def tissue(mask, seed):
    """A colour image of a mask: violet on lilac, with noise."""
    rng = np.random.default_rng(seed)
    image = np.where(mask[..., None] > 0, (80, 40, 160), (190, 170, 220)) + rng.normal(0, 8, (*mask.shape, 3))
    return image.clip(0, 255).astype(np.uint8)


def write_pairs(folder, count=6, size=(40, 48)):
    """Folders ``images`` and ``masks`` with the same stems."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        mask = blobs(index, size)
        Image.fromarray(mask).save(folder / f"masks/{index:02d}.png")
        Image.fromarray(tissue(mask, index)).save(folder / f"images/{index:02d}.png")
    return folder / "images", folder / "masks"


def pix2pix(steps=20, model=None, **options):
    torch.manual_seed(0)
    net = {**UNET, "in_channels": 3, "out_channels": 1, **(model or {})}
    made = Pix2PixOptions(**{"steps": steps, "model": net, **NARROW, **options})
    return Pix2Pix(made, fabric_for("cpu", "fp32"), lambda generator: {})


def cyclegan(steps=20, model=None, **options):
    torch.manual_seed(0)
    net = {**RESNET, "in_channels": 3, "out_channels": 3, **(model or {})}
    made = CycleGANOptions(**{"steps": steps, "model": net, **NARROW, **options})
    return CycleGAN(made, fabric_for("cpu", "fp32"), lambda generator: {})
