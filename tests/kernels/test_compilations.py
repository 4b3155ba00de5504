"""How many kernels Triton compiles over many image sizes, by its own key. Nothing is compiled or launched."""

import random

import pytest
import torch

triton = pytest.importorskip("triton", reason="Triton is not installed: pip install '.[test]' installs it on Linux")

from gankit_kernels import fuse  # noqa: E402
from gankit_kernels.blend import BlendSpec  # noqa: E402
from gankit_kernels.instance_norm import NormSpec  # noqa: E402
from gankit_kernels.modules import FusedNorm, FusedShuffle  # noqa: E402
from gankit_kernels.pixel_shuffle import ShuffleSpec  # noqa: E402
from gankit_kernels.pixels import PixelsSpec, ValuesSpec  # noqa: E402

from gankit import models  # noqa: E402
from tests.kernels.driver import active, compilations  # noqa: E402

HALF = torch.float16
SIZES = 500


def sizes(multiple: int) -> list[tuple[int, int]]:
    """Random heights and widths from 64 to 2048 pixels."""
    generator = random.Random(0)
    low, high = -(-64 // multiple), 2048 // multiple
    return [(multiple * generator.randint(low, high), multiple * generator.randint(low, high)) for _ in range(SIZES)]


def allocate(like: torch.Tensor, layout: torch.memory_format) -> torch.Tensor:
    """A tensor that is never filled, of the shape of a tensor without memory: dense, or a view inside a border."""
    samples, channels, height, width = like.shape
    pad = (like.stride(2) // like.stride(3) - width) // 2
    room = torch.empty((samples, channels, height + 2 * pad, width + 2 * pad), dtype=HALF, memory_format=layout)
    return room[:, :, pad : pad + height, pad : pad + width]


def launch(module: FusedNorm | FusedShuffle, tensors: list[torch.Tensor]) -> None:
    """Launch what a fused module launches on a GPU."""
    from gankit_kernels.on_cuda.instance_norm import launch as norm
    from gankit_kernels.on_cuda.pixel_shuffle import launch as shuffle

    def companion(value: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
        return None if value is None else torch.empty(value.shape, dtype=dtype)

    if isinstance(module, FusedNorm):
        spec = NormSpec(module.activation, module.slope, module.pad, module.eps, module.whole)
        affine = companion(module.weight, torch.float32), companion(module.bias, torch.float32)
        norm(tensors[0], *affine, tensors[1] if tensors[1:] else None, spec)
    else:
        parameters = companion(module.bias, HALF), companion(module.prelu, HALF)
        shuffle(tensors[0], *parameters, ShuffleSpec(module.r, module.activation, module.slope, module.order == "dcr"))


@pytest.mark.parametrize(
    ("model", "options", "layout", "most"),
    [
        ("cyclegan", {"blocks": 2}, torch.channels_last, 12),
        ("animegan", {"channels": 16, "blocks": 2}, torch.channels_last, 12),
        ("srgan", {"blocks": 1}, torch.channels_last, 2),
        # Planes have one kernel for each of four alignments, and more ways to divide the work.
        ("cyclegan", {"blocks": 2}, torch.contiguous_format, 64),
        ("srgan", {"blocks": 1}, torch.contiguous_format, 8),
    ],
)
def test_a_generator_on_many_image_sizes(tmp_path, model, options, layout, most):
    facts = models.facts(model, options)
    network = fuse(models.build(model, options).eval()).to("meta").half()
    found: list[tuple[FusedNorm | FusedShuffle, list[torch.Tensor]]] = []
    for module in network.modules():
        if isinstance(module, FusedNorm | FusedShuffle):
            module.register_forward_pre_hook(lambda module, tensors: found.append((module, list(tensors))))
    with active(tmp_path), compilations() as keys, torch.inference_mode():
        for height, width in sizes(facts.multiple):
            found.clear()
            network(torch.empty((1, 3, height, width), dtype=HALF, device="meta"))
            assert found
            for module, tensors in found:
                launch(module, [allocate(item, layout) for item in tensors])
    assert 1 <= len(keys) <= most, f"{len(keys)} kernels for {SIZES} image sizes"


def test_pixels_and_tiles_on_many_image_sizes(tmp_path):
    from gankit_kernels.on_cuda.blend import launch as blend
    from gankit_kernels.on_cuda.pixels import launch_from, launch_to

    with active(tmp_path), compilations() as keys:
        for height, width in sizes(1):
            launch_from(torch.empty((1, height, width, 3), dtype=torch.uint8), ValuesSpec(-1.0, 1.0, HALF, True))
            values = torch.empty((1, 3, height, width), dtype=HALF, memory_format=torch.channels_last)
            launch_to(values, PixelsSpec(-1.0, 1.0, torch.uint8))
            tiles = torch.empty((4, 3, height, width), dtype=HALF)
            blend(tiles, BlendSpec((0, height // 2), (0, width // 2), height * 3 // 2, width * 3 // 2, 8))
    assert 1 <= len(keys) <= 4, f"{len(keys)} kernels for {SIZES} image sizes"
