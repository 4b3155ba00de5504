"""The inputs of the parity check and the timing: tiles of a real image with synthetic images, or a few samples."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import as_file, files

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from gankit.backends.base import Engine, EngineSpec
from gankit.backends.calls import checked_run
from gankit.backends.choice.parity import GATE_DB, Parity, Verdict, compare, reference
from gankit.backends.choice.synthetic import CONTRASTS, contrast, faint_images, synthetic_images
from gankit.backends.cuda.precision import exact_fp32
from gankit.backends.memory import free_memory
from gankit.backends.pixels import enter, from_values
from gankit.models.sampling import latents

_TILE = (160, 192)
_CPU_TILE = (96, 128)  # a CPU's speed per pixel is the same as for the larger one, and choosing takes half the time
_GPU_TILE, _GPU_TILES = (192, 256), 4  # the whole image of gankit; a smaller batch would measure launches and copies
_ROOMY = 4 << 30  # free bytes of a GPU for such a batch; SRGAN's references in fp32 take 2 GB
_SAMPLES = 16
_ROUNDING = 2.0**-23


@dataclass(frozen=True)
class Case:
    """One input with its reference output.

    Attributes:
        inputs: arguments of :meth:`Engine.run`: images as float32 in [0, 1], or latents and classes.
        wanted: the fp32 output of the generator for them, float32, nominally in [0, 1].
        name: name of a synthetic image, for messages; empty for the real image and for samples.
        contrast: of a synthetic image; see :class:`Verdict`.
    """

    inputs: tuple[Tensor, ...]
    wanted: Tensor
    name: str = ""
    contrast: float = math.inf


@dataclass(frozen=True)
class Probe:
    """The inputs of the parity check, of which the first is also timed.

    Attributes:
        spec: the spec from which it was made.
        timed: a real image, on a GPU with its mirror images, or samples.
        synthetic: the synthetic images; none for a model that generates.
        megapixels: megapixels of the timed images, or of the generated samples.
        title: description of the inputs.
        gate: least parity in dB.
    """

    spec: EngineSpec
    timed: Case
    synthetic: tuple[Case, ...]
    megapixels: float
    title: str
    gate: float = GATE_DB

    @classmethod
    def of(cls, spec: EngineSpec, sides: tuple[int, int] | None = None) -> Probe:
        """Make the probe for a spec.

        Args:
            spec: the spec of the engine. Its device determines the size of the tile.
            sides: height and width of the tile in pixels, if another size is needed.
        """
        facts = spec.facts
        if facts.task == "generate":
            return cls._samples(spec)
        on_gpu = spec.device_type == "cuda"
        height, width = sides or (_GPU_TILE if on_gpu else _CPU_TILE)
        least = facts.minimum
        tile = real_tile(facts.channels, facts.multiple, (max(height, least), max(width, least)))
        if on_gpu and sides is None and torch.cuda.is_available() and free_memory(spec.device) >= _ROOMY:
            tile = _mirrored(tile, _GPU_TILES)
        others = synthetic_images(facts.channels, facts.multiple, least)
        if not facts.tileable:  # a network that takes the statistics of the whole image
            rows, columns = next(iter(others.values())).shape[2:]
            small = real_tile(facts.channels, facts.multiple, (rows, columns))
            others |= faint_images(small)
        with _references(spec) as wanted:
            synthetic = tuple(Case((image,), wanted(image), name, contrast(image)) for name, image in others.items())
            timed = Case((tile,), wanted(tile))
        title = f"a real image and {len(synthetic)} synthetic ones"
        return cls(spec, timed, synthetic, tile[:, 0].numel() / 1e6, title)

    @classmethod
    def _samples(cls, spec: EngineSpec) -> Probe:
        facts = spec.facts
        given = (torch.from_numpy(latents(0, range(_SAMPLES), facts.latent)),)
        if facts.classes:
            given = (*given, torch.arange(_SAMPLES) % facts.classes)  # type: ignore[assignment]
        wanted = from_values(reference(spec.generator, *given), facts, torch.float32)
        pixels = wanted.shape[0] * wanted.shape[2] * wanted.shape[3]
        return cls(spec, Case(given, wanted), (), pixels / 1e6, f"{_SAMPLES} samples")

    @property
    def timed_inputs(self) -> tuple[Tensor, ...]:
        """The inputs of the timed runs: images as bytes, as read from files, or latents unchanged."""
        inputs = self.timed.inputs
        return inputs if inputs[0].ndim != 4 else ((inputs[0] * 255).round().to(torch.uint8),)

    def parity(self, engine: Engine) -> Parity:
        """Run an engine on all inputs and return the worst parity."""
        return self._worst(self._on_all(engine, self.parity_on_timed(engine)))

    def parity_on_timed(self, engine: Engine) -> Parity:
        """Run an engine on the real image, or on the samples, and measure the parity of its output."""
        return _parity(engine, self.timed)

    def verdict(self, engine: Engine, known: Parity) -> Verdict:
        """Run an engine on the synthetic images and find out which images it may run.

        A network that takes the statistics of the whole image may fail in a narrow precision on images of little
        contrast alone: InstanceNorm amplifies the rounding errors of a flat image. If the engine passes on all images
        from a contrast on, only those below it have to run in fp32.

        Args:
            engine: the engine.
            known: the parity on the real image or the samples, from :meth:`parity_on_timed`.
        """
        found = self._on_all(engine, known)
        if engine.precision != "fp32" and not self.spec.facts.tileable and known.passes(self.gate):
            for least in CONTRASTS:
                if all(parity.passes(self.gate) or contrast < least for parity, contrast in found):
                    kept = [
                        (parity, contrast)
                        for parity, contrast in found
                        if parity.passes(self.gate) or contrast >= least
                    ]
                    return Verdict(self._worst(kept), least if len(kept) < len(found) else 0.0)
        return Verdict(self._worst(found))

    def _on_all(self, engine: Engine, known: Parity) -> list[tuple[Parity, float]]:
        """Run an engine on the synthetic images and return the parity and the contrast of each, after the known one.

        In fp32, a synthetic image below the gate counts only if fp32 determines its output at all, which is the case if
        the output of the module itself in fp64 passes the gate; see :func:`_more_exact`. Otherwise (InstanceNorm on a
        flat image may amplify the rounding errors of every precision) no engine could pass, not even the module that is
        the reference.
        """
        found = [(known, math.inf)]
        for case in self.synthetic:
            parity = _parity(engine, case)
            if parity.passes(self.gate) or engine.precision != "fp32" or case.name not in self._undetermined:
                found.append((parity, case.contrast))
        return found

    @staticmethod
    def _worst(found: Sequence[tuple[Parity, float]]) -> Parity:
        return min((parity for parity, _ in found), key=lambda parity: parity.psnr)

    def parity_of(self, result: Tensor) -> Parity:
        """Measure the parity of an engine's output for :attr:`timed_inputs`."""
        return compare(result if result.is_floating_point() else result.float() / 255, self.timed.wanted)

    @cached_property
    def _undetermined(self) -> frozenset[str]:
        """Names of the synthetic images whose output in fp32 is further from that in fp64 than the gate allows."""
        facts, found = self.spec.facts, set()
        for case in self.synthetic:
            try:
                values = _more_exact(self.spec.generator, enter(case.inputs, facts))
                agrees = compare(from_values(values, facts, torch.float32), case.wanted).passes()
            except Exception:  # a module of the user that runs only in fp32; the real image must be enough then
                agrees = False
            if not agrees:
                found.add(case.name)
        return frozenset(found)


def _more_exact(generator: nn.Module, values: Sequence[Tensor]) -> Tensor:
    """The output in fp64; of a file of another runtime, which has none, that in fp32 for inputs one rounding away."""
    exact = copy.deepcopy(generator).double()
    tensors = (*exact.parameters(), *exact.buffers())
    if not tensors or any(item.is_floating_point() for item in tensors):
        return reference(exact, *(item.double() for item in values))
    random = torch.Generator().manual_seed(0)
    signs = (torch.randint(0, 2, item.shape, generator=random) * 2 - 1 for item in values)
    return reference(generator, *(item + _ROUNDING * sign for item, sign in zip(values, signs, strict=True)))


@contextmanager
def _references(spec: EngineSpec) -> Iterator[Callable[[Tensor], Tensor]]:
    """Make a function that computes the fp32 output for images; float32 in [0, 1] on the CPU.

    For an engine on a GPU, it computes there, in true float32 and with torch's own kernels, because the CPU would take
    longer than all the measurements. If that fails, it computes on the CPU.
    """
    facts = spec.facts

    def on_cpu(image: Tensor) -> Tensor:
        values = enter((image,), facts)
        return from_values(reference(spec.generator, *values), facts, torch.float32)

    if spec.device_type != "cuda":
        yield on_cpu
        return
    generator: nn.Module | None = None
    try:
        generator = copy.deepcopy(spec.generator).to(spec.device)
    except Exception:  # a module of the user that cannot be copied, or a GPU whose memory is full
        generator = None

    def on_gpu(image: Tensor) -> Tensor:
        if generator is not None:
            try:
                values = (item.to(spec.device) for item in enter((image,), facts))
                with exact_fp32(spec.device, "fp32"):
                    return from_values(reference(generator, *values), facts, torch.float32).cpu()
            except Exception:  # as above; the CPU shows whether the module itself is at fault
                pass
        return on_cpu(image)

    yield on_gpu


def _mirrored(tile: Tensor, count: int) -> Tensor:
    """Return so many images (1 to 4): a tile and its mirror images, (N, C, H, W), channels_last."""
    turned = [tile, tile.flip(3), tile.flip(2), tile.flip(2, 3)]
    return torch.cat(turned[:count]).contiguous(memory_format=torch.channels_last)


def _parity(engine: Engine, case: Case) -> Parity:
    result = checked_run(engine, *case.inputs, shape=case.wanted.shape)
    return replace(compare(result, case.wanted), image=case.name)


def real_tile(channels: int = 3, multiple: int = 1, sides: tuple[int, int] = _TILE) -> Tensor:
    """Return the centre of the image that ships with gankit, (1, C, H, W) float32 in [0, 1].

    Args:
        channels: 1 for gray, 3 for RGB. For any other number, the three colours repeat.
        multiple: the sides are cut to multiples of it, or padded by reflection if it exceeds them.
        sides: height and width in pixels, before that.
    """
    with as_file(files("gankit") / "weights" / "parity.png") as path, Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    missing = [(0, max(0, multiple - size)) for size in pixels.shape[:2]]
    pixels = np.pad(pixels, (*missing, (0, 0)), mode="reflect")
    wanted = (max(side, multiple) for side in sides)
    height, width = (
        min(side, size) // multiple * multiple for side, size in zip(wanted, pixels.shape[:2], strict=True)
    )
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    tile = torch.from_numpy(pixels[top : top + height, left : left + width].copy()).permute(2, 0, 1)[None].float() / 255
    tile = tile.mean(1, keepdim=True) if channels == 1 else tile[:, torch.arange(channels) % 3]
    return tile.contiguous(memory_format=torch.channels_last)
