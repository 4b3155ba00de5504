"""nn.Module -> a model repository of NVIDIA's Triton Inference Server, with one model in it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from gankit_export import manifest as manifests
from gankit_export.artefact import Source, make_onnx
from gankit_export.formats import InOut
from gankit_export.latent import CLASSES, LATENTS
from gankit_export.manifest import Manifest
from gankit_export.parity import Batch
from gankit_export.precisions import Precision
from gankit_export.publishing import drafts, publish_folder

ServerBackend = Literal["onnxruntime", "tensorrt"]
ServerDevice = Literal["cpu", "gpu"]
PLATFORMS: Mapping[ServerBackend, str] = {"onnxruntime": "onnxruntime_onnx", "tensorrt": "tensorrt_plan"}
FILES: Mapping[ServerBackend, str] = {"onnxruntime": "model.onnx", "tensorrt": "model.plan"}
CONFIG = "config.pbtxt"
VERSION = "1"
_TYPES = {"float32": "TYPE_FP32", "uint8": "TYPE_UINT8", "int64": "TYPE_INT64"}
_WARM_UP_SIDE = 64


@dataclass(frozen=True)
class Serving:
    """How the server runs a model.

    Attributes:
        backend: of the server: ``"onnxruntime"``, or ``"tensorrt"`` for an engine.
        device: ``"gpu"`` or ``"cpu"``, where its instances run.
        instances: number of copies of the model on each device, which run requests side by side.
        max_batch: largest batch, to which the server joins requests of equal shapes.
        delay: microseconds that a request waits for others.
    """

    backend: ServerBackend = "onnxruntime"
    device: ServerDevice = "gpu"
    instances: int = 1
    max_batch: int = 8
    delay: int = 2000


def make_repository(
    generator: nn.Module,
    source: Source,
    path: Path | str,
    batches: Sequence[Batch] = (),
    *,
    serving: Serving | None = None,
    precision: Precision = "fp32",
    opset: int | None = None,
    threshold: float | None = None,
    images: Sequence[str] = (),
    in_out: InOut = "float32",
) -> Manifest:
    """Write a model repository for the server's ONNX Runtime back end; the folder appears whole and proven, or not.

    It contains ``NAME/config.pbtxt``, ``NAME/1/model.onnx`` and the file's manifest, where NAME is the name of the
    folder's model (see :func:`model_name`).

    Args:
        generator: fp32, eval mode, on the CPU.
        source: its facts.
        path: the folder of the repository; replaced if there.
        batches: real images, as in :func:`gankit_export.artefact.make_onnx`.
        serving: how the server runs it; ``None`` for the defaults.
        precision: as in :func:`gankit_export.artefact.make_onnx`, and likewise the rest.
        opset: as there.
        threshold: as there.
        images: as there.
        in_out: as there.

    Returns:
        The manifest of the ONNX file.

    Raises:
        ParityFailedError, ExportError, RangeError, ImportError, OSError: As :func:`gankit_export.artefact.make_onnx`.
    """
    path, serving = Path(path), serving or Serving()
    with drafts(path.parent) as folder:
        model = folder / "model.onnx"
        manifest = make_onnx(
            generator,
            source,
            model,
            batches,
            precision=precision,
            opset=opset,
            threshold=threshold,
            images=images,
            in_out=in_out,
        )
        publish_folder(assembled(folder, model, manifest, serving), path)
    return manifest


def assembled(folder: Path, model: Path, manifest: Manifest, serving: Serving) -> Path:
    """Put a file and its manifest into a model repository.

    Args:
        folder: a temporary folder, in which the repository is made.
        model: the ONNX file or the engine. It is moved.
        manifest: its manifest.
        serving: how the server runs it.

    Returns:
        The folder of the repository.

    Raises:
        OSError: A file cannot be written.
    """
    repository, name = folder / "repository", model_name(manifest)
    version = repository / name / VERSION
    version.mkdir(parents=True)
    target = version / FILES[serving.backend]
    shutil.move(model, target)
    manifests.write(manifest, target)
    (repository / name / CONFIG).write_text(config(name, manifest, serving), encoding="utf-8")
    return repository


def model_name(manifest: Manifest) -> str:
    """Return the name of a model for the server, such as ``"srgan_x4_fp16"``: letters, digits, ``_``, ``-``, ``.``."""
    parts = [manifest.model, f"x{manifest.scale}" if manifest.scale > 1 else "", manifest.precision]
    return re.sub(r"[^A-Za-z0-9.-]+", "_", "_".join(part for part in parts if part))


def config(name: str, manifest: Manifest, serving: Serving) -> str:
    """Return the text of ``config.pbtxt``: protobuf text of the server's ``ModelConfig``.

    Images of any size are allowed (-1), unless the file states a size. The warm-up runs before the server reports the
    model as ready, so that no request waits for it.

    Args:
        name: of the model.
        manifest: of the ONNX file or the engine.
        serving: how the server runs it.
    """
    inputs = [(key, dims) for key, dims in manifest.dims.items() if key != manifest.output["name"]]
    outputs = [(manifest.output["name"], manifest.dims[manifest.output["name"]])]
    preferred = sorted({size for size in (serving.max_batch // 2, serving.max_batch) if size > 1})
    blocks = [
        f"name: {_text(name)}",
        f"platform: {_text(PLATFORMS[serving.backend])}",
        f"max_batch_size: {serving.max_batch}",
        *(_tensor("input", key, _dtype(key, manifest.input["dtype"]), dims) for key, dims in inputs),
        *(_tensor("output", key, manifest.output["dtype"], dims) for key, dims in outputs),
        "dynamic_batching {",
        *([f"  preferred_batch_size: [ {', '.join(map(str, preferred))} ]"] if preferred else []),
        f"  max_queue_delay_microseconds: {serving.delay}",
        "}",
        "instance_group [",
        f"  {{ count: {serving.instances} kind: KIND_{serving.device.upper()} }}",
        "]",
        "version_policy { latest { num_versions: 1 } }",
        "model_warmup [",
        "  {",
        f"    name: {_text('random ' + manifest.takes)}",
        "    batch_size: 1",
        *(_warm_up(key, _dtype(key, manifest.input["dtype"]), dims, manifest) for key, dims in inputs),
        "  }",
        "]",
        *(_parameter(key, value) for key, value in {**_tuning(serving), **parameters(manifest)}.items()),
    ]
    return "\n".join(blocks) + "\n"


def parameters(manifest: Manifest) -> dict[str, str]:
    """Return what the configuration says of the model to clients, which they read from the server."""
    return {
        "weights_sha256": manifest.weights_sha256,
        "sha256": manifest.sha256,
        "precision": manifest.precision,
        "value_range": json.dumps(list(manifest.value_range)),
        "scale": str(manifest.scale),
        "multiple": str(manifest.multiple),
        "minimum": str(manifest.minimum),
        **manifest.metadata,
    }


def _tuning(serving: Serving) -> dict[str, str]:
    """Parameters of the server's ONNX Runtime on a GPU: an exhaustive search, its default, repeats for every size."""
    on_gpu = serving.backend == "onnxruntime" and serving.device == "gpu"
    return {"cudnn_conv_algo_search": "1"} if on_gpu else {}  # 1 is HEURISTIC


def _dtype(name: str, dtype: str) -> str:
    return "int64" if name == CLASSES else "float32" if name == LATENTS else dtype


def _tensor(kind: str, name: str, dtype: str, dims: Sequence[int | str]) -> str:
    """An input or an output. The server adds the batch axis itself."""
    sides = [size if isinstance(size, int) else -1 for size in dims[1:]]
    if not sides:  # one number for each item of the batch
        return (
            f"{kind} [\n  {{\n    name: {_text(name)}\n    data_type: {_TYPES[dtype]}\n    dims: [ 1 ]\n"
            "    reshape { shape: [ ] }\n  }\n]"
        )
    return (
        f"{kind} [\n  {{\n    name: {_text(name)}\n    data_type: {_TYPES[dtype]}\n"
        f"    dims: [ {', '.join(map(str, sides))} ]\n  }}\n]"
    )


def _warm_up(name: str, dtype: str, dims: Sequence[int | str], manifest: Manifest) -> str:
    side = -(-max(_WARM_UP_SIDE, manifest.minimum) // manifest.multiple) * manifest.multiple
    sides = [size if isinstance(size, int) else side for size in dims[1:]] or [1]
    data = "zero_data: true" if dtype == "int64" else "random_data: true"
    return (
        f"    inputs {{\n      key: {_text(name)}\n      value {{\n        data_type: {_TYPES[dtype]}\n"
        f"        dims: [ {', '.join(map(str, sides))} ]\n        {data}\n      }}\n    }}"
    )


def _parameter(key: str, value: str) -> str:
    return f"parameters {{\n  key: {_text(key)}\n  value {{ string_value: {_text(value)} }}\n}}"


def _text(value: str) -> str:
    """A string of protobuf text, whose escapes for ASCII are those of JSON; other characters stay as they are."""
    plain = "".join(item if item.isprintable() else " " for item in value)
    return json.dumps(plain, ensure_ascii=False)
