"""Small things for the recipes that begin with a latent."""

import struct

import numpy as np
import torch

from gankit.datasets.whole_images import WholeImages
from gankit.training.fabric import fabric_for
from gankit.training.loader import batches
from gankit.training.recipes import recipe as recipe_named
from gankit.training.systems.latent import LatentSystem
from gankit.training.systems.latent_options import VAEOptions, from_preset
from gankit.training.systems.vae import VAESystem

TINY = {
    "gan": {"widths": (32,), "discriminator_widths": (32,)},
    "cgan": {"widths": (12, 8), "discriminator_widths": (8,)},
    "dcgan": {"widths": (8,)},
}


def write_idx(folder, side=8, count=64):
    """Bright bars on black: class 0 lies, class 1 stands; at one of two places, a little brighter or darker."""
    rng = np.random.default_rng(0)
    images = np.zeros((count, side, side), np.uint8)
    classes = np.arange(count, dtype=np.uint8) % 2
    half = side // 2
    for image, kind in zip(images, classes, strict=True):
        place = half // 2 + int(rng.integers(0, 2))
        value = int(rng.integers(200, 256))
        if kind:
            image[:, place : place + half] = value
        else:
            image[place : place + half] = value
    folder.mkdir(exist_ok=True)
    for name, array in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", classes)):
        header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        (folder / name).write_bytes(header + array.tobytes())
    return folder


def latent_system(recipe, images, steps=20, precision="fp32", **options):
    """A recipe with small nets, as :mod:`gankit.training.latent` makes it."""
    torch.manual_seed(0)
    fabric = fabric_for("cpu", precision)
    reference, _ = images.first(64)
    given = {"steps": steps, "size": images.side, "latent": 4, **options}
    if recipe == "vae":
        return VAESystem(VAEOptions(**{"hidden": (32,), "kl_warmup": 5, **given}), fabric, reference)
    preset = recipe_named(recipe).preset
    made = from_preset(preset, {**given, "classes": 2})
    if not made.widths:
        made = from_preset(preset, {**TINY[made.net], **given, "classes": 2})
    return LatentSystem(recipe, made, fabric, reference)


def latent_stream(system, images, batch=16):
    """As the set-up's: a batch for each turn of the discriminator."""
    turns = getattr(system.options, "discriminator_steps", 1)

    def stream(start):
        single = batches(images, batch, start * turns)
        while True:
            yield [next(single) for _ in range(turns)]

    return stream


def bars(tmp_path, side=8):
    """A data set of :func:`write_idx`."""
    return WholeImages(write_idx(tmp_path / "bars", side), side=side)
