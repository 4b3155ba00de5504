"""Images through an autoencoder, in the kind that the user gave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gankit.errors import UsageError
from gankit.images import DecodedImage, luma
from gankit.models.facts import Facts
from gankit.pipeline.given import given


def reconstruct(
    value: Any,
    facts: Facts,
    encode: Callable[[Tensor], tuple[Tensor, Tensor]],
    decode: Callable[[Tensor], Tensor],
    size: int,
) -> Any:
    """Encode images and decode the means of their latents.

    Args:
        value: images that :func:`gankit.pipeline.given.given` takes, or a list of them. A gray model also takes an
            array (N, H, W).
        facts: facts of the autoencoder.
        encode: converts images (N, C, H, W) in the value range to the means and log-variances of their latents.
        decode: converts latents (N, latent) to images (N, C, H, W), nearly from 0 to 1.
        size: number of images in one call.

    Returns:
        The reconstructions in the kind of ``value``.

    Raises:
        UsageError: If the images do not fit the model.
        ImageError: If a file cannot be read.
    """

    def run(batch: Tensor) -> Tensor:
        _check_size(batch, facts)
        low, high = facts.value_range
        made = [batch.new_empty((0, *batch.shape[1:]))]
        for part in batch.split(size) if len(batch) else ():
            with torch.inference_mode():
                mean, _ = encode(part * (high - low) + low)
            made.append(decode(mean.contiguous()))
        return torch.cat(made).clamp(0, 1)

    if isinstance(value, list | tuple):
        return [reconstruct(one, facts, encode, decode, size) for one in value]
    if facts.channels == 1 and isinstance(value, np.ndarray) and value.ndim == 3 and value.shape[-1] > 4:
        return reconstruct(value[..., None], facts, encode, decode, size)[..., 0]
    item = given(value, facts)
    if item.batch is not None:
        return item.batch_back(run(item.batch), facts)
    results: list[DecodedImage] = []
    if item.images:
        results = _images(run(torch.cat([_values(image, facts) for image in item.images])), item.images)
    return item.back(results, facts)


def _check_size(batch: Tensor, facts: Facts) -> None:
    height, width = facts.output_size or (0, 0)
    if batch.shape[2:] != (height, width):
        have = f"{batch.shape[3]}×{batch.shape[2]}"
        raise UsageError(
            f"'{facts.name}' reconstructs images of {width}×{height} pixels, not {have}; resize them first"
        )


def _values(image: DecodedImage, facts: Facts) -> Tensor:
    """Return an image as (1, C, H, W) float32 from 0 to 1."""
    pixels = luma(image.pixels)[..., None] if facts.channels == 1 else image.pixels
    values = pixels.astype(np.float32) / _top(pixels.dtype)
    return torch.from_numpy(values).permute(2, 0, 1)[None]


def _images(values: Tensor, sources: Sequence[DecodedImage]) -> list[DecodedImage]:
    """Return (N, C, H, W) from 0 to 1 as images of the depth of their sources."""
    results = []
    for made, source in zip(values, sources, strict=True):
        samples = made.permute(1, 2, 0).numpy()
        dtype = source.pixels.dtype
        if dtype.kind != "f":
            samples = np.rint(samples * _top(dtype))
        pixels = np.ascontiguousarray(np.broadcast_to(samples, (*samples.shape[:2], 3))).astype(dtype)
        results.append(DecodedImage(pixels, gray=samples.shape[2] == 1))
    return results


def _top(dtype: np.dtype[Any]) -> int:
    return 1 if dtype.kind == "f" else int(np.iinfo(dtype).max)
