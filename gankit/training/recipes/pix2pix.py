"""pix2pix (Isola et al. 2017, arXiv:1611.07004): images from images, learnt from pairs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gankit.errors import UsageError
from gankit.training.recipes.base import (
    COUNT,
    FOLDER,
    WEIGHT,
    Choice,
    Job,
    Option,
    Recipe,
    RunDefaults,
    Switch,
    Whole,
    with_defaults,
)
from gankit.training.recipes.families import translation
from gankit.training.systems.translation_options import Pix2PixOptions

_MODEL: Mapping[str, Any] = MappingProxyType(
    {"channels": 64, "downs": 8, "norm": "batch", "norm_at_test": "instance", "dropout": True}
)
_OWN = (
    Option("source", FOLDER, "Folder of the input images (A).", switch="data"),
    Option("target", FOLDER, "Folder of the target images (B), with the same file names as A."),
    Option("aligned", FOLDER, "Folder of images that show A and B side by side; give it instead of the two folders."),
    Option("channels", COUNT, "Width of the U-Net's first level."),
    Option("downs", Whole(2, 16), "Number of the U-Net's levels."),
    Option("norm", Choice(("batch", "instance")), "Normalisation in the generator."),
    Option(
        "norm_at_test",
        Choice(("instance", "eval")),
        "Statistics of batch normalisation after training: those of the image, as in the paper, or the running ones.",
    ),
    Option("dropout", Switch(), "Use dropout in the deep levels of the decoder."),
    Option("content_weight", WEIGHT, "Weight of the distance between the output and the target."),
)


def _train(job: Job, given: Mapping[str, Any]) -> dict[str, float]:
    from gankit.training.translation import train_pix2pix

    aligned, both = given.get("aligned"), (given.get("source"), given.get("target"))
    if aligned is not None and any(both):
        raise UsageError("--aligned stands in place of --data and --target: give it alone")
    if aligned is None and not all(both):
        raise UsageError("give --data and --target, or --aligned")
    return translation.train(train_pix2pix, _MODEL, job, {**given, "source": aligned or both[0]})


RECIPE = Recipe(
    "pix2pix",
    "Image translation learnt from pairs (Isola et al. 2017).",
    "--data images/ --target masks/ --target-kind mask --channels 24 --downs 5 --steps 500",
    (*with_defaults(_OWN, Pix2PixOptions, preset=_MODEL), *translation.shared_options(Pix2PixOptions)),
    _train,
    RunDefaults(20_000, batch=1),
    "The output folder receives log.csv, last.pt (which --resume continues), held_out.txt (the names of the "
    "validation images) and final.safetensors, which `gankit translate --model FILE` loads. Where the target is a "
    "mask, best.safetensors holds the weights with the highest Dice coefficient.",
)
