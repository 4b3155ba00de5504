"""The engine of the TensorRT backend: which shapes it is built for, how it is proven, and how images run through it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from gankit_export.files import atomic_path
from gankit_export.formats import INPUT
from gankit_export.gpu import Gpu
from gankit_export.latent import CLASSES, LATENTS
from gankit_export.receptive_field import halo
from gankit_export.tensorrt.artefact import proven_layers
from gankit_export.tensorrt.build import BuildSettings, build
from gankit_export.tensorrt.library import TensorRTError
from gankit_export.tensorrt.machine import Machine
from gankit_export.tensorrt.profiles import Profile, Range, Shape, batch_profile
from gankit_export.tensorrt.runtime import Session
from gankit_export.tensorrt.store import EngineFacts, EngineStore, key
from torch import Tensor

from gankit.backends.artefacts import open_onnx, sha256_in_name
from gankit.backends.base import Engine, EngineSpec
from gankit.backends.pixels import check, enter, enter_pixels, leave, leave_pixels
from gankit.backends.proof import prove
from gankit.errors import BackendError, NotFiniteError
from gankit.models.facts import Facts
from gankit.paths import cache_folder

_SIDES = (256, 512, 1024)  # of the static tile
_HALOS = 8  # the least side of a tile in halos: three quarters of its pixels are then kept, or 9/16 of its area
_PIXELS = 512 * 512  # in the static batch
SAMPLES = 64  # in the largest batch of a generator of latents


def tile_side(facts: Facts, reach: int) -> int:
    """Return the side of the static tile, a multiple of the model's size multiple.

    Args:
        facts: facts of the generator.
        reach: its halo in input pixels.
    """
    side = next((side for side in _SIDES if side >= _HALOS * reach), _SIDES[-1])
    return up(max(side, facts.minimum), facts.multiple)


def image_profiles(facts: Facts, side: int) -> list[Profile]:
    """Return the profiles for images whose sides are at most ``side``.

    A generator that can be tiled gets a static batch of static tiles, for which TensorRT chooses its kernels and which
    is what large images are cut into, and a dynamic profile for smaller images and for the last tiles of an image. One
    that needs the whole image gets the dynamic profile alone.

    Args:
        facts: facts of the generator.
        side: largest side in input pixels.
    """
    batch = max(1, _PIXELS // side**2) if facts.tileable else 1
    least = up(facts.minimum, facts.multiple)
    tile = (facts.channels, side, side)
    small = Range((1, facts.channels, least, least), (1, *tile), (batch, *tile))
    found = [Profile({INPUT: small})]
    if facts.tileable:
        found.insert(0, Profile({INPUT: Range(*([(batch, *tile)] * 3))}))
    return found


def latent_profile(facts: Facts, most: int) -> Profile:
    """Return the profile of a generator of latents, for up to ``most`` samples in one call."""
    shapes: dict[str, Shape] = {LATENTS: (facts.latent,)}
    if facts.classes:
        shapes[CLASSES] = ()
    return batch_profile(shapes, most)


class SessionEngine(Engine):
    """Runs images or latents through a session of TensorRT.

    Args:
        spec: the spec of the engine.
        gpu: where it runs.
    """

    def __init__(self, spec: EngineSpec, gpu: Gpu) -> None:
        super().__init__("tensorrt", spec)
        self._facts, self._gpu = spec.facts, gpu

    @abstractmethod
    def _session(self, tensors: Sequence[Tensor]) -> Session:
        """Return the session for inputs of this size."""

    def run(self, *tensors: Tensor) -> Tensor:
        """See :meth:`Engine.run`."""
        check(tensors, self._facts)
        latents = self._facts.task == "generate"
        session = self._session(tensors)
        with torch.inference_mode(), self._gpu.scope():
            given = tuple(item.to(self._gpu.device) for item in tensors)
            pixels_in = torch.uint8 in session.inputs.values()
            convert = enter_pixels if pixels_in else enter
            values = tuple(item.contiguous() for item in convert(given, self._facts))
            chunks = zip(*(item.split(session.largest_batch) for item in values), strict=True)
            try:
                result = torch.cat([_run_filled(session, chunk) for chunk in chunks])
            except TensorRTError as error:
                raise BackendError(f"'{self._facts.name}': {error}") from error
            integers = not latents and tensors[0].dtype != torch.float32
            if self.precision == "fp16" and integers and not bool(result.isfinite().all()):
                raise NotFiniteError("values beyond the range of fp16; use --precision bf16 or fp32")
            pixels = (leave_pixels if result.dtype == torch.uint8 else leave)(result, given, self._facts)
            return pixels.cpu() if latents else pixels.contiguous(memory_format=torch.channels_last).cpu()


class FileEngine(SessionEngine):
    """Runs an engine file.

    Args:
        spec: the spec of the engine.
        gpu: where it runs.
        plan: content of the file.
        sha256: of the file.

    Raises:
        BackendError: If TensorRT cannot load the file.
    """

    def __init__(self, spec: EngineSpec, gpu: Gpu, plan: bytes, sha256: str) -> None:
        super().__init__(spec, gpu)
        self.artefact = sha256
        try:
            self._loaded = Session(plan, gpu)
        except TensorRTError as error:
            raise BackendError(str(error)) from error
        axes = slice(1, 3) if torch.uint8 in self._loaded.inputs.values() else slice(2, 4)
        sides = [profile.inputs[INPUT].most[axes] for profile in self._loaded.profiles if INPUT in profile.inputs]
        self.tile = max(min(pair) for pair in sides) if self._facts.tileable else None

    def _session(self, tensors: Sequence[Tensor]) -> Session:
        return self._loaded

    def close(self) -> None:
        """Release the engine."""
        self._loaded.close()


class TensorRTEngine(SessionEngine):
    """Runs images or latents through TensorRT engines, which it builds when inputs of their size first come.

    Every engine is compared with the fp32 generator before it is used, whether it is for the first tile of a run or for
    a larger image in the middle of it.

    Args:
        spec: the spec of the engine.
        gpu: where it runs.
        machine: the machine, on which cached engines depend.

    Raises:
        BackendError: If the generator cannot be exported.
    """

    def __init__(self, spec: EngineSpec, gpu: Gpu, machine: Machine) -> None:
        super().__init__(spec, gpu)
        self._spec, self._machine = spec, machine
        self._model: Path = open_onnx(spec, lambda path: path, spec.precision)
        self.artefact = sha256_in_name(self._model)
        self._store = EngineStore(cache_folder() / "tensorrt")
        self._settings = BuildSettings()
        self._sessions: dict[int, Session] = {}
        if self._facts.task != "generate":
            reach = self._facts.halo or 0
            if self._facts.tileable and self._facts.halo is None:
                reach = halo(spec.generator)
            self._side = tile_side(self._facts, reach)
            self.tile = self._side if self._facts.tileable else None

    def close(self) -> None:
        """Release the engines of all sizes."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()

    def _session(self, tensors: Sequence[Tensor]) -> Session:
        """Return the session for inputs of this size, which the first call loads or builds."""
        side = 0
        if self._facts.task != "generate":
            side = self._side
            while side < max(tensors[0].shape[2:]):
                side = up(2 * side, self._facts.multiple)
        if side not in self._sessions:
            profiles = image_profiles(self._facts, side) if side else [latent_profile(self._facts, SAMPLES)]
            if (tile := self._spec.shapes.tile) is not None:
                fixed = (self._spec.shapes.batch or 1, self._facts.channels, *tile)
                profiles = [Profile({INPUT: Range(fixed, fixed, fixed)})]
            try:
                self._sessions[side] = self._loaded(profiles)
            except TensorRTError as error:
                raise BackendError(f"'{self._facts.name}': {error}") from error
            except OSError as error:
                folder = self._store.folder
                raise BackendError(
                    f"{folder}: the engine cannot be written ({error.strerror}); set GANKIT_CACHE to another folder"
                ) from error
        return self._sessions[side]

    def _loaded(self, profiles: Sequence[Profile]) -> Session:
        """Load an engine from the cache, or build, prove and store it."""
        digest = key(self.artefact, self._machine, profiles, self._settings)
        made: list[Session] = []

        def make() -> tuple[bytes, EngineFacts]:
            plan = self._built(profiles)
            session = Session(plan, self._gpu)
            layers = proven_layers(session, self._spec.precision)
            best = [{name: item.best for name, item in profile.inputs.items()} for profile in session.profiles]
            psnr = prove(self._spec, self._gpu, best, session.run, "TensorRT engine").psnr
            made.append(session)
            return plan, EngineFacts(self.artefact, self._machine, tuple(profiles), self._settings, layers, psnr)

        plan, _ = self._store.get(self._facts.name, digest, make, self._spec.notify)
        return made[0] if made else Session(plan, self._gpu)

    def _built(self, profiles: Sequence[Profile]) -> bytes:
        notify = self._spec.notify or (lambda line: None)
        what = f"a TensorRT engine for {self._facts.name} {self.precision}"
        notify(f"building {what}, {profiles[-1]}; this takes minutes once, and the engine is cached")
        with self._store.timings(self._machine) as path:
            timings = path.read_bytes() if path.exists() else b""
            built = build(
                self._model.read_bytes(),
                profiles,
                self._settings,
                path=self._model,
                timings=timings,
                progress=quarters(lambda percent: notify(f"building {what}: {percent} %")),
            )
            if built.timings:
                with atomic_path(path) as temporary:
                    temporary.write_bytes(built.timings)
        return built.plan


def _run_filled(session: Session, given: Sequence[Tensor]) -> Tensor:
    """Run a batch, filled up with copies of its last image if the engine takes full batches only."""
    count = given[0].shape[0]
    lack = session.largest_batch - count
    if lack and session.profile_for(*(item.shape for item in given)) is None:
        filled = [torch.cat([item, item[-1:].expand(lack, *item.shape[1:])]) for item in given]
        if session.profile_for(*(item.shape for item in filled)) is not None:
            return session.run(*filled)[:count]
    return session.run(*given)


def quarters(report: Callable[[int], None]) -> Callable[[str, float], None]:
    """Return a progress function that reports each further quarter in percent."""
    reached = 0

    def progress(phase: str, fraction: float) -> None:
        nonlocal reached
        quarter = int(fraction * 4)
        if reached < quarter < 4:
            reached = quarter
            report(25 * quarter)

    return progress


def up(value: int, multiple: int) -> int:
    """Round a side up to a multiple."""
    return -(-value // multiple) * multiple
