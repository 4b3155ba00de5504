"""The proof of an engine that is built when inputs of a new size come: it is compared with the fp32 generator."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from gankit_export.gpu import Gpu
from gankit_export.latent import LATENTS
from torch import Tensor

from gankit.backends.base import EngineSpec
from gankit.backends.choice.parity import GATE_DB, Parity, compare, reference
from gankit.backends.choice.probe import real_tile
from gankit.backends.cuda.precision import exact_fp32
from gankit.backends.pixels import enter, from_values
from gankit.errors import BackendError
from gankit.models.facts import Facts

Shape = tuple[int, ...]


def prove(
    spec: EngineSpec, gpu: Gpu, given: Sequence[Mapping[str, Shape]], run: Callable[..., Tensor], what: str
) -> Parity:
    """Compare a session with the fp32 generator, and return the worst parity.

    Args:
        spec: the generator, and the precision of the session.
        gpu: where both run.
        given: shapes of the inputs by their names, once for each comparison.
        run: runs values as they enter the network, on the GPU.
        what: the session in the error message, such as ``"TensorRT engine"``.

    Raises:
        BackendError: If it does not pass the gate.
    """
    generator, facts = copy.deepcopy(spec.generator).to(gpu.device), spec.facts
    worst: Parity | None = None
    for shapes in given:
        tensors = tuple(item.to(gpu.device) for item in _inputs(facts, shapes))
        with torch.inference_mode(), gpu.scope(), exact_fp32(str(gpu.device), "fp32"):
            values = enter(tensors, facts)
            wanted, result = reference(generator, *values), run(*(item.contiguous() for item in values))
            found = compare(*(from_values(item, facts, torch.float32).cpu() for item in (result, wanted)))
        worst = found if worst is None or found.psnr < worst.psnr else worst
        if not found.passes():
            where = ", ".join("x".join(map(str, shape)) for shape in shapes.values())
            raise BackendError(
                f"the {what} of '{facts.name}' in {spec.precision} reaches {found.psnr:.1f} dB "
                f"against fp32 at {where}, below {GATE_DB:.0f} dB; use another --precision or --backend"
            )
    assert worst is not None
    return worst


def _inputs(facts: Facts, shapes: Mapping[str, Shape]) -> tuple[Tensor, ...]:
    """Return inputs of these shapes: a real image, repeated to its size, or seeded latents and classes in turn."""
    if facts.task == "generate":
        generator = torch.Generator().manual_seed(0)
        count = shapes[LATENTS][0]
        latents = torch.randn(shapes[LATENTS], generator=generator)
        return (latents, torch.arange(count) % facts.classes) if facts.classes else (latents,)
    ((batch, _, height, width),) = shapes.values()
    tile = real_tile(facts.channels, facts.multiple, (height, width))
    times = (batch, 1, -(-height // tile.shape[2]), -(-width // tile.shape[3]))
    return (tile.repeat(times)[:, :, :height, :width].contiguous(),)
