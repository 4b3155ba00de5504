"""How many kernels Triton compiles over many image sizes, by its own key. Nothing is compiled or launched."""

import random
from dataclasses import dataclass
from fractions import Fraction

import pytest
import torch

triton = pytest.importorskip("triton", reason="Triton is not installed: pip install '.[test]' installs it on Linux")

from gankit_export.rewrites import for_inference  # noqa: E402
from gankit_kernels import fuse  # noqa: E402
from gankit_kernels.blend import BlendSpec  # noqa: E402
from gankit_kernels.instance_norm import NormSpec  # noqa: E402
from gankit_kernels.modules import FusedEpilogue, FusedNorm, FusedShuffle  # noqa: E402
from gankit_kernels.pixel_shuffle import ShuffleSpec  # noqa: E402
from gankit_kernels.pixels import PixelsSpec, ValuesSpec  # noqa: E402
from gankit_kernels.specs import EpilogueSpec  # noqa: E402

from gankit import models  # noqa: E402
from tests.kernels.driver import active, compilations  # noqa: E402

pytestmark = pytest.mark.slow

HALF = torch.float16
SIZES = 500


def sizes(multiple: int) -> list[tuple[int, int]]:
    """Random heights and widths from 64 to 2048 pixels."""
    generator = random.Random(0)
    low, high = -(-64 // multiple), 2048 // multiple
    return [(multiple * generator.randint(low, high), multiple * generator.randint(low, high)) for _ in range(SIZES)]


@dataclass(frozen=True)
class Fused:
    """A call of a fused module on an image of ``BASE`` pixels, without tensors.

    Attributes:
        spec: What the module does.
        channels: Channels of the source.
        scale: Side of the source relative to the image.
        parameters: Number of values of weight and bias, or of bias and slopes; 0 where there are none.
        residual: Border around the residual, in pixels; ``None`` where there is no residual.
        wide: Channels from one pixel of the source to the next.
    """

    spec: NormSpec | ShuffleSpec | EpilogueSpec
    channels: int
    scale: Fraction
    parameters: tuple[int, int]
    residual: int | None = None
    wide: int = 0

    def launch(self, height: int, width: int, layout: torch.memory_format) -> None:
        """Launch the kernels for an image of this size, on tensors that are never filled."""
        from gankit_kernels.on_cuda.epilogue import launch as epilogue
        from gankit_kernels.on_cuda.instance_norm import launch as norm
        from gankit_kernels.on_cuda.pixel_shuffle import launch as shuffle

        def image(pad: int, channels: int) -> torch.Tensor:
            size = (1, channels, rows + 2 * pad, columns + 2 * pad)
            whole = torch.empty(size, dtype=HALF, memory_format=layout)
            return whole[:, : self.channels, pad : pad + rows, pad : pad + columns]

        rows, columns = int(height * self.scale), int(width * self.scale)
        dtype = torch.float32 if isinstance(self.spec, NormSpec) else HALF
        one, two = (torch.empty(count, dtype=dtype) if count else None for count in self.parameters)
        x, residual = image(0, self.wide), None if self.residual is None else image(self.residual, self.channels)
        if isinstance(self.spec, NormSpec):
            norm(x, one, two, residual, self.spec)
        elif isinstance(self.spec, EpilogueSpec):
            epilogue(x, one, two, residual, self.spec)
        else:
            shuffle(x, one, two, self.spec)


BASE = 256


def fused_calls(model: str, options: dict[str, object]) -> set[Fused]:
    """The different calls of the fused modules of a generator, found on tensors without memory."""
    network = fuse(for_inference(models.build(model, options).eval()).half(), pad_outputs=8).to("meta")
    found: set[Fused] = set()

    def note(module: FusedNorm | FusedShuffle | FusedEpilogue, tensors: tuple[torch.Tensor, ...]) -> None:
        x, *others = tensors
        wide = x.shape[1]
        if isinstance(module, FusedNorm):
            spec = NormSpec(module.activation, module.slope, module.pad, module.eps, module.whole)
            values = module.weight, module.bias
        elif isinstance(module, FusedEpilogue):
            spec = EpilogueSpec(module.activation, module.slope, module.scale, module.before, module.pads)
            values = module.bias, module.prelu
        else:
            spec = ShuffleSpec(module.r, module.activation, module.slope, module.order == "dcr")
            values = module.bias, module.prelu
        parameters = tuple(0 if value is None else value.numel() for value in values)
        border = (others[0].stride(2) - x.shape[3]) // 2 if others else None
        channels = getattr(module, "channels", None) or wide
        found.add(Fused(spec, channels, Fraction(x.shape[2], BASE), parameters, border, wide))

    for module in network.modules():
        if isinstance(module, FusedNorm | FusedShuffle | FusedEpilogue):
            module.register_forward_pre_hook(note)
    with torch.inference_mode():
        network(torch.empty((1, 3, BASE, BASE), dtype=HALF, device="meta"))
    return found


@pytest.mark.parametrize(
    ("model", "layout", "most"),
    [
        ("cyclegan", torch.channels_last, 12),
        ("animegan", torch.channels_last, 12),
        ("srgan", torch.channels_last, 6),
        # Planes have a kernel for each of four alignments, and more ways to divide the work. No engine uses them.
        ("cyclegan", torch.contiguous_format, 72),
        ("srgan", torch.contiguous_format, 16),
    ],
    ids=str,
)
def test_a_generator_on_many_image_sizes(tmp_path, model, layout, most):
    found = fused_calls(model, {"blocks": 2})
    assert found
    with active(tmp_path), compilations() as keys:
        for height, width in sizes(models.facts(model, {}).multiple):
            for call in found:
                call.launch(height, width, layout)
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
    assert 1 <= len(keys) <= 6, f"{len(keys)} kernels for {SIZES} image sizes"
