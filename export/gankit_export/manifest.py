"""The manifest that lies beside an exported file: what it is, from what, and how right it is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from gankit_export.files import atomic_path
from gankit_export.formats import Format
from gankit_export.parity import ShapeParity

Takes = Literal["images", "latents"]
FORMAT = 1
_ALSO_AS = {"onnxruntime": ("onnxruntime-gpu",)}


@dataclass(frozen=True)
class Manifest:
    """Facts of an artefact.

    Attributes:
        model: registry name of the generator.
        weights: file name of the weights.
        weights_sha256: of the weights file.
        options: what builds the generator.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"int8"``; normalisations are fp32 in all of them.
        opset: of the ONNX file.
        input: name, dtype of the input.
        output: name, dtype of the output.
        dims: shape of each, a dynamic side by its name.
        value_range: of both, lowest and highest.
        scale: output side over input side.
        multiple: input sides must be a multiple of this.
        sha256: of the artefact.
        half_convolutions: convolutions (of a generator of latents also matrix products) with fp16 or bf16 weights, and
            all of them.
        threshold: dB that each parity had to reach.
        runtime: what ran the file for the parity, on a CPU.
        parity: against the fp32 generator, for each shape.
        versions: of the packages that made it and of the runtime.
        quantised: how an int8 file was made; see :func:`gankit_export.int8.make_int8`. Empty for other precisions.
        images: names of the images that the parity was measured on, as the shapes took them in turn; empty where
            nobody named them.
        takes: ``"images"``, or ``"latents"``: float32, standard normal.
        minimum: input sides must be at least this.
        latent: numbers in one latent; 0 for images.
        classes: that the second input, int64, chooses from, counted from 0; 0 where there is none.
        engine: what the file needs of the machine: facts of a TensorRT engine
            (:meth:`gankit_export.tensorrt.store.EngineFacts.to_json`) or of an AOTInductor package
            (:meth:`gankit_export.aoti.Needs.to_json`); empty for a file that does not depend on the machine.
        kind: format of the artefact.
        files: names of the files that belong to the artefact, with their sha256, such as the weights of an OpenVINO IR.
        metadata: texts about the generator beside these facts, such as its task and the licence of its weights.
    """

    model: str
    weights: str
    weights_sha256: str
    options: Mapping[str, Any]
    precision: str
    opset: int
    input: Mapping[str, str]
    output: Mapping[str, str]
    dims: Mapping[str, list[int | str]]
    value_range: tuple[float, float]
    scale: int
    multiple: int
    sha256: str
    half_convolutions: tuple[int, int]
    threshold: float
    runtime: str
    parity: tuple[ShapeParity, ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    quantised: Mapping[str, Any] = field(default_factory=dict)
    images: tuple[str, ...] = ()
    takes: Takes = "images"
    minimum: int = 1
    latent: int = 0
    classes: int = 0
    engine: Mapping[str, Any] = field(default_factory=dict)
    kind: Format = "onnx"
    files: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """As text; infinite figures become the strings ``"inf"`` and ``"-inf"``, which JSON has no numbers for."""
        return json.dumps(_plain({"format": FORMAT, **dataclasses.asdict(self)}), indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """The manifest in a text.

        Raises:
            ValueError: it is none, or of a newer format.
        """
        try:
            content = json.loads(text)
            if content.pop("format") != FORMAT:
                raise ValueError("of another version")
            content["parity"] = tuple(
                ShapeParity(
                    tuple(item["shape"]), float(item["psnr"]), float(item["max_abs"]), float(item["eager_psnr"])
                )
                for item in content["parity"]
            )
            for name in ("value_range", "half_convolutions", "images"):
                content[name] = tuple(content.get(name, ()))
            for name in ("engine", "files", "metadata", "options", "dims"):
                if not isinstance(content.get(name, {}), dict):
                    raise ValueError(f"'{name}' is no object")
            return cls(**content)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"not a manifest: {error}") from error


def manifest_path(artefact: Path | str) -> Path:
    """``x.onnx`` -> ``x.onnx.json``."""
    artefact = Path(artefact)
    return artefact.with_name(artefact.name + ".json")


def write(manifest: Manifest, artefact: Path | str) -> Path:
    """Write the manifest beside its artefact, whole or not at all, and return its path."""
    path = manifest_path(artefact)
    with atomic_path(path) as temporary:
        temporary.write_text(manifest.to_json(), encoding="utf-8")
    return path


def read(artefact: Path | str) -> Manifest:
    """The manifest beside an artefact.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or the artefact, or a file that belongs to it, is not the one that it describes.
    """
    manifest = Manifest.from_json(manifest_path(artefact).read_text(encoding="utf-8"))
    for path, digest in {Path(artefact): manifest.sha256, **_others(manifest, artefact)}.items():
        try:
            found = sha256(path)
        except FileNotFoundError:
            raise ValueError(f"{path}: no such file") from None
        if found != digest:
            raise ValueError(f"{path}: differs from the checksum in its manifest")
    return manifest


def _others(manifest: Manifest, artefact: Path | str) -> dict[Path, str]:
    """The files that belong to an artefact, which are beside it.

    Raises:
        ValueError: a name leads to another folder.
    """
    if wrong := [name for name in manifest.files if Path(name).name != name]:
        raise ValueError(f"not a manifest: '{wrong[0]}' is no file name")
    return {Path(artefact).with_name(name): digest for name, digest in manifest.files.items()}


def sha256(path: Path | str) -> str:
    """Of a file, hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions(*packages: str) -> dict[str, str]:
    """Installed versions, by the name of the distribution; packages that are not installed are left out.

    Where ``onnxruntime`` is not there, ``onnxruntime-gpu`` is looked for, which is imported by the same name.
    """
    found = {}
    for package in packages:
        for name in (package, *_ALSO_AS.get(package, ())):
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
            break
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and value in (float("inf"), float("-inf")) else value
