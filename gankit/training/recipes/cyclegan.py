"""CycleGAN (Zhu et al. 2017, arXiv:1703.10593): two kinds of images turned into each other, without pairs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gankit.training.recipes.base import (
    COUNT,
    FOLDER,
    NUMBER,
    SHARE,
    WEIGHT,
    Choice,
    Job,
    Option,
    Recipe,
    RunDefaults,
    Switch,
    with_defaults,
)
from gankit.training.recipes.families import translation
from gankit.training.systems.translation_options import CycleGANOptions

_MODEL: Mapping[str, Any] = MappingProxyType(
    {
        "channels": 64,
        "blocks": 9,
        "norm": "instance",
        "antialias": False,
        "antialias_up": False,
        "dropout": None,
    }
)
_OWN = (
    Option("source", FOLDER, "Folder of images of the first kind (A).", required=True, switch="data"),
    Option("target", FOLDER, "Folder of images of the second kind (B).", required=True),
    Option("channels", COUNT, "Width of the generators' first stage."),
    Option("blocks", COUNT, "Number of residual blocks in each generator."),
    Option("norm", Choice(("instance", "batch")), "Normalisation in the generators."),
    Option("antialias", Switch(), "Blur before subsampling, as CUT does."),
    Option("antialias_up", Switch(), "Upsample with a blur, which avoids checkerboard patterns."),
    Option("dropout", SHARE, "Dropout probability in every residual block.", default_text="no dropout"),
    Option("cycle_weight", WEIGHT, "Weight of the cycle loss: the way there and back keeps the image."),
    Option(
        "identity_weight",
        WEIGHT,
        "Weight, relative to --cycle-weight, of the identity loss: an image of the target kind stays as it is.",
    ),
    Option(
        "image_pool",
        NUMBER,
        "Size of the image pool: generated images that are kept and shown to the discriminators again.",
    ),
)


def _train(job: Job, given: Mapping[str, Any]) -> dict[str, float]:
    from gankit.training.translation import train_cyclegan

    return translation.train(train_cyclegan, _MODEL, job, given)


RECIPE = Recipe(
    "cyclegan",
    "Image translation in both directions, learnt without pairs (Zhu et al. 2017).",
    "--data summer/ --target winter/ --channels 16 --blocks 4 --size 128 --steps 300",
    (*with_defaults(_OWN, CycleGANOptions, preset=_MODEL), *translation.shared_options(CycleGANOptions)),
    _train,
    RunDefaults(20_000, batch=1),
    "The output folder receives log.csv, last.pt (which --resume continues), held_out.txt (the names of the "
    "validation images), final_G_A.safetensors (A to B) and final_G_B.safetensors (B to A). `gankit translate --model "
    "FILE --direction AtoB` loads either file.",
)
