"""The engine of AOTInductor: a package of machine code that torch compiled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from gankit_export.aoti import Input, Needs, Package, PackageError, package_metadata, plain_version
from gankit_export.aoti_build import compile_package, package_inputs
from gankit_export.manifest import Manifest
from gankit_export.onnx import ExportError
from gankit_export.precision import Float32Edges
from torch import Tensor, nn

from gankit.backends.artefacts import sha256_in_name
from gankit.backends.base import Engine, EngineSpec
from gankit.backends.built_files import open_built
from gankit.backends.cpu.threads import default_threads, limited_threads
from gankit.backends.inductor_cache import use_inductor_cache
from gankit.backends.modules import not_finite, typed_module
from gankit.backends.pixels import enter, enter_pixels, leave, leave_pixels
from gankit.errors import BackendError

_NAME = "aoti"
_SUFFIXES = (".pt2",)


def open_package(spec: EngineSpec) -> Engine:
    """Compile the generator once, for any batch of images of any size, or of latents, and open the package.

    Raises:
        BackendError: If the generator cannot be compiled.
    """
    facts = spec.facts
    inputs = package_inputs(facts.channels, facts.multiple, facts.latent, facts.classes)

    def build(path: Path) -> None:
        use_inductor_cache()
        try:
            compile_package(_float32_edges(spec).to(spec.device), path, inputs, facts.classes)
        except ExportError as error:
            raise BackendError(f"'{facts.name}': {error}") from error

    def open_file(path: Path) -> Engine:
        return PackageEngine(spec, path, _needs(spec, path, inputs), sha256_in_name(path))

    return open_built(spec, _NAME, _SUFFIXES, build, open_file, needs=_of_machine(spec), precision=spec.precision)


def open_package_file(spec: EngineSpec, path: Path, manifest: Manifest) -> Engine:
    """Open a package that ``gankit export`` wrote, whose checksum has been verified.

    Raises:
        BackendError: If this machine cannot run it. The message names the file and the reason.
    """
    try:
        return PackageEngine(spec, path, Needs.from_json(manifest.engine), manifest.sha256)
    except (PackageError, ValueError) as error:
        raise BackendError(f"{path}: {error}; export the model again on this machine") from error


class PackageEngine(Engine):
    """Runs a package.

    Args:
        spec: the spec of the engine.
        path: the ``.pt2`` file.
        needs: what it needs.
        sha256: of the file.

    Raises:
        PackageError: If this machine cannot run it.
    """

    def __init__(self, spec: EngineSpec, path: Path, needs: Needs, sha256: str) -> None:
        super().__init__(_NAME, spec)
        self._facts, self.artefact = spec.facts, sha256
        self._threads = spec.threads or default_threads()
        self._package = Package(path, needs, spec.device)
        self._path, self._static = path, _static(needs)
        self._takes_pixels = needs.inputs[0].dtype == "uint8"
        if self._static is not None:
            self.tile = min(self._static[1:])

    def run(self, *tensors: Tensor) -> Tensor:
        """See :meth:`Engine.run`."""
        latents = self._facts.task == "generate"
        with torch.inference_mode(), limited_threads(self._threads):
            given = tuple(item.to(self.device) for item in tensors)
            convert = enter_pixels if self._takes_pixels else enter
            values = tuple(item.contiguous() for item in convert(given, self._facts))
            count = values[0].shape[0]
            size = self._static[0] if self._static is not None else count
            try:
                parts = [
                    self._package(*(_filled(item[start : start + size], size) for item in values))
                    for start in range(0, count, max(1, size))
                ]
            except PackageError as error:
                raise BackendError(f"{self._path}: {error}") from error
            made = (torch.cat(parts) if len(parts) > 1 else parts[0])[:count]
            integers = not latents and tensors[0].dtype != torch.float32
            if self.precision == "fp16" and integers and not bool(made.isfinite().all()):
                raise not_finite()
            pixels = (leave_pixels if made.dtype == torch.uint8 else leave)(made, given, self._facts)
            return pixels.cpu() if latents else pixels.contiguous(memory_format=torch.channels_last).cpu()


def _filled(batch: Tensor, size: int) -> Tensor:
    """Fill a batch up with copies of its last image, for a package that takes full batches only."""
    lack = size - batch.shape[0]
    filled = torch.cat([batch, batch[-1:].expand(lack, *batch.shape[1:])]) if lack > 0 else batch
    return filled.contiguous()


def _static(needs: Needs) -> tuple[int, int, int] | None:
    """Return batch, height and width of a package for one shape of images; ``None`` for a dynamic one."""
    axes = needs.inputs[0].axes
    if len(axes) != 4 or any(least != most for least, most, _ in axes):
        return None
    batch, *others = (least for least, _, _ in axes)
    height, width = others[:2] if needs.inputs[0].dtype == "uint8" else others[1:]
    return batch, height, width


def _float32_edges(spec: EngineSpec) -> nn.Module:
    """Return the generator in its precision, which takes and gives float32."""
    from gankit_export.latent import typed_latent

    if spec.facts.task == "generate":
        return typed_latent(spec.generator, spec.precision, conditional=spec.facts.classes > 0)
    module = typed_module(spec)
    if spec.precision == "fp32":
        return module
    return Float32Edges(module, torch.bfloat16 if spec.precision == "bf16" else torch.float16).eval()


def _of_machine(spec: EngineSpec) -> list[str]:
    """Return what a package depends on beside the generator: the processor or the GPU, and the kind of torch."""
    import platform

    where = torch.backends.cpu.get_cpu_capability()
    if spec.device_type == "cuda":
        where = f"{torch.cuda.get_device_name(spec.device)} {torch.cuda.get_device_capability(spec.device)}"
    return [torch.__version__, platform.machine(), spec.device_type, where]


def _needs(spec: EngineSpec, path: Path, inputs: Sequence[Input]) -> Needs:
    """Return what a package of this machine's cache needs; its instruction set is in its own metadata."""
    from gankit_export.aoti import capability

    found = package_metadata(path)
    return Needs(
        plain_version(torch.__version__),
        spec.device_type,
        found.get("AOTI_MACHINE", ""),
        found.get("AOTI_CPU_ISA", ""),
        capability(spec.device) if spec.device_type == "cuda" else "",
        tuple(inputs),
    )
