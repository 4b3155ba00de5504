"""The engine of ONNX Runtime's TensorRT provider."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from gankit_export.formats import INPUT
from gankit_export.gpu import Gpu
from gankit_export.receptive_field import halo
from gankit_export.tensorrt.profiles import Profile, Range, Shape
from torch import Tensor

from gankit.backends.base import EngineSpec
from gankit.backends.onnx_runtime_cuda import PROVIDER as CUDA_PROVIDER
from gankit.backends.onnx_runtime_cuda import OnnxRuntimeCudaEngine, Provider, is_static, provider_options
from gankit.backends.onnx_runtime_tensorrt_cache import folder, verified
from gankit.backends.proof import prove
from gankit.backends.tensorrt_engine import SAMPLES, image_profiles, latent_profile, tile_side, up

PROVIDER = "TensorrtExecutionProvider"


def tensorrt_options(spec: EngineSpec, gpu: Gpu, profile: Profile, sha256: str) -> dict[str, str]:
    """Return the options of the TensorRT provider.

    Args:
        spec: the spec of the engine.
        gpu: where it runs.
        profile: the shapes for which it builds its engine.
        sha256: of the ONNX file, which keeps the engines of other weights apart.
    """
    where = str(folder())
    ranges = profile.inputs.items()
    return {
        "device_id": str(gpu.device.index or 0),
        "user_compute_stream": str(gpu.handle),
        "trt_fp16_enable": "1" if spec.precision == "fp16" else "0",  # the half-precision layers of the file need it
        "trt_layer_norm_fp32_fallback": "1",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": where,
        "trt_engine_cache_prefix": _prefix(profile, sha256),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": where,
        "trt_profile_min_shapes": _shapes({name: item.least for name, item in ranges}),
        "trt_profile_opt_shapes": _shapes({name: item.best for name, item in ranges}),
        "trt_profile_max_shapes": _shapes({name: item.most for name, item in ranges}),
        "trt_cuda_graph_enable": "1" if is_static(spec) else "0",
    }


class OnnxRuntimeTensorRTEngine(OnnxRuntimeCudaEngine):
    """Runs images or latents through engines that the TensorRT provider builds when inputs of a new size come.

    Layers that TensorRT does not take run on the CUDA provider. Each session is compared with the fp32 generator before
    its first use, because the provider may choose half precision for other layers than those of the file.

    Args:
        spec: the spec of the engine.
        path: the ONNX file, in the precision of the spec.
        gpu: where it runs.

    Raises:
        BackendError: If a layer would run on the CPU, or the session does not use the TensorRT provider.
    """

    def __init__(self, spec: EngineSpec, path: Path, gpu: Gpu) -> None:
        facts = spec.facts
        self._side = 0
        if facts.task != "generate":
            known = facts.halo is not None or not facts.tileable
            self._side = tile_side(facts, (facts.halo or 0) if known else halo(spec.generator))
        self._profile = _profile(spec, self._side)
        super().__init__(spec, path, gpu, "onnxruntime-tensorrt")
        if facts.tileable and facts.task != "generate":
            self.tile = self._side

    def _providers(self) -> list[Provider]:
        """See :meth:`OnnxRuntimeCudaEngine._providers`."""
        own = tensorrt_options(self._spec, self._gpu, self._profile, self.artefact)
        rest = provider_options(self._spec, self._gpu) | {"enable_cuda_graph": "0"}  # one provider records the graph
        return [(PROVIDER, own), (CUDA_PROVIDER, rest)]

    def _opened(self, providers: Sequence[Provider]) -> Any:
        """Open a session, build its engine or load it from the cache, and compare it with the generator."""
        notify = self._spec.notify or (lambda line: None)
        prefix = _prefix(self._profile, self.artefact)
        with verified(prefix) as cached:
            if not cached:
                what = f"a TensorRT engine for {self._facts.name} {self.precision}"
                notify(
                    f"ONNX Runtime builds {what}, {self._profile}; this takes minutes once, and the engine is cached"
                )
            self._session = super()._opened(providers)
            self._inputs = [item.name for item in self._session.get_inputs()]
            self._output = self._session.get_outputs()[0].name
            best = {name: item.best for name, item in self._profile.inputs.items()}
            prove(
                self._spec,
                self._gpu,
                [best],
                lambda *given: super(OnnxRuntimeTensorRTEngine, self)._run(given),
                f"{self.backend} engine",
            )
        return self._session

    def _run(self, values: Sequence[Tensor]) -> Tensor:
        shape = values[0].shape
        if self._side and max(shape[2:]) > max(self._profile.inputs[INPUT].most[2:]) and not self._fixed:
            while self._side < max(shape[2:]):
                self._side = up(2 * self._side, self._facts.multiple)
            self._profile = _profile(self._spec, self._side)
            self._opened(self._providers())
        most = next(iter(self._profile.inputs.values())).most[0]
        chunks = zip(*(item.split(most) for item in values), strict=True)
        return torch.cat([super(OnnxRuntimeTensorRTEngine, self)._run(chunk) for chunk in chunks])


def _profile(spec: EngineSpec, side: int) -> Profile:
    """Return the profile for images of up to ``side`` pixels, or for latents."""
    facts = spec.facts
    if facts.task == "generate":
        found = latent_profile(facts, spec.shapes.batch or SAMPLES)
        if spec.shapes.batch is None:
            return found
        return Profile({name: Range(item.most, item.most, item.most) for name, item in found.inputs.items()})
    if (tile := spec.shapes.tile) is not None:
        fixed = (spec.shapes.batch or 1, facts.channels, *tile)
        return Profile({INPUT: Range(fixed, fixed, fixed)})
    return image_profiles(facts, side)[-1]


def _prefix(profile: Profile, sha256: str) -> str:
    """Return the beginning of the names of an engine's files, which depends on the weights and on the profile."""
    return f"{sha256[:32]}-{hashlib.sha256(str(profile).encode()).hexdigest()[:16]}"


def _shapes(shapes: Mapping[str, Shape]) -> str:
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())
