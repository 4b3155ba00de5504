"""The device and the shapes of a TensorRT engine or an AOTInductor package that a user exports."""

from __future__ import annotations

from gankit_export import gpu as gpus
from gankit_export.formats import INPUT
from gankit_export.latent import CLASSES, LATENTS
from gankit_export.tensorrt.library import missing
from gankit_export.tensorrt.profiles import Profile, Shape, batch_profile, image_profile

from gankit.backends import get
from gankit.backends.base import EngineSpec
from gankit.backends.choice.candidates import devices, parse_device
from gankit.errors import BackendError, UsageError
from gankit.models.facts import Facts

_TILE, _BATCH = 256, 64


def engine_gpu(device: str) -> gpus.Gpu:
    """Return the GPU for which to build an engine.

    Raises:
        UsageError: If the device is no GPU.
        BackendError: If there is no GPU, or TensorRT cannot be used. The message says what to install.
    """
    from torch import nn

    if device.partition(":")[0] != "cuda":
        raise UsageError(f"a TensorRT engine is built for a GPU, not for {device}; use --device cuda")
    probe = EngineSpec(nn.Identity(), Facts(task="upscale", value_range=(0, 1)), device=device)
    if why := get("tensorrt").missing(probe) or missing():
        raise BackendError(f"--format tensorrt: {why}")
    return gpus.Gpu(device)


def engine_profile(facts: Facts, shapes: str | None) -> Profile:
    """Return the profile of an engine.

    Args:
        facts: facts of the generator.
        shapes: what the user gave; see :func:`gankit.pipeline.exporting.export`.

    Raises:
        UsageError: If it is something else than shapes.
    """
    if facts.task == "generate":
        if shapes is not None and not (shapes.isdecimal() and int(shapes)):
            raise UsageError(
                f"--shapes {shapes}: '{facts.name}' generates from noise; give the largest batch, as in 64"
            )
        inner: dict[str, Shape] = {LATENTS: (facts.latent,)}
        if facts.classes:
            inner[CLASSES] = ()
        return batch_profile(inner, int(shapes) if shapes else _BATCH)
    side = -(-max(_TILE, facts.minimum) // facts.multiple) * facts.multiple
    try:
        profile = image_profile(INPUT, shapes or f"1x{side}x{side}", facts.channels, facts.multiple)
    except ValueError as error:
        raise UsageError(f"--shapes: {error}") from error
    if min(profile.inputs[INPUT].least[2:]) < facts.minimum:
        raise UsageError(f"--shapes: the sides must be at least {facts.minimum}, which '{facts.name}' needs")
    return profile


def package_device(device: str) -> str:
    """Return the device for which to compile an AOTInductor package.

    Raises:
        UsageError: If there is no such device.
        BackendError: If its compiler is missing. The message says what to install.
    """
    from torch import nn

    device = parse_device(device)
    device = devices()[0] if device == "auto" else device
    probe = EngineSpec(nn.Identity(), Facts(task="upscale", value_range=(0, 1)), device=device)
    if why := get("aoti").missing(probe):
        raise BackendError(f"--format aoti: {why}")
    return device


def package_shape(facts: Facts, shapes: str | None) -> tuple[int, int, int] | None:
    """Return batch, height and width of a static AOTInductor package; ``None`` for a dynamic one.

    Raises:
        UsageError: If ``shapes`` is something else than one shape of images.
    """
    if shapes is None:
        return None
    if facts.task == "generate" or "," in shapes:
        reason = f"'{facts.name}' generates from noise" if facts.task == "generate" else "it is more than one shape"
        raise UsageError(f"--shapes {shapes}: {reason}; omit --shapes, as an AOTInductor package takes every batch")
    batch, _, height, width = engine_profile(facts, shapes).inputs[INPUT].best
    if facts.tileable and height != width:
        raise UsageError(f"--shapes {shapes}: images of '{facts.name}' are cut into square tiles; use equal sides")
    return batch, height, width
