"""What all exported files have in common: the module that stands for one, and the facts in its manifest."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from gankit_export import manifest as manifests
from gankit_export.formats import OUTPUT, Format
from gankit_export.manifest import Manifest
from gankit_export.receptive_field import halo
from torch import nn

from gankit import models
from gankit.errors import CheckpointError
from gankit.models.facts import Facts, InputKind, Task


class ExportedModule(nn.Module):
    """Stands for the generator in an exported file. It has no weights that torch knows."""


def read_manifest(path: Path, kind: Format) -> Manifest | None:
    """Read the manifest beside an exported file, and verify the checksums of the file and of those that belong to it.

    Args:
        path: the exported file.
        kind: its format.

    Returns:
        The manifest; ``None`` if there is none.

    Raises:
        CheckpointError: The file is missing, or its manifest is damaged or describes another file. One line.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: {'is a directory' if path.is_dir() else 'no such file'}")
    try:
        manifest = manifests.read(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its manifest does not match ({error}); export the model again") from error
    if manifest.kind != kind:
        raise CheckpointError(f"{path}: its manifest is that of a file of format {manifest.kind}; export it again")
    return manifest


def required_manifest(path: Path, kind: Format) -> Manifest:
    """Read the manifest of a file that cannot be used without one; see :func:`read_manifest`."""
    manifest = read_manifest(path, kind)
    if manifest is None:
        name = manifests.manifest_path(path).name
        raise CheckpointError(f"{path}: its manifest {name} is missing; `gankit export --format {kind}` writes both")
    return manifest


def facts_of(path: Path, manifest: Manifest) -> Facts:
    """Return the facts of the generator in an exported file.

    Those of a model that gankit knows follow from its options. Images of any other run whole unless the manifest has
    its halo.

    Args:
        path: the exported file, for messages.
        manifest: its manifest.

    Raises:
        CheckpointError: The manifest has facts that contradict each other. One line.
    """
    try:
        if models.is_known(manifest.model) and manifest.options:
            return replace(_known(manifest), value_range=manifest.value_range)
        return _stated(manifest)
    except Exception as error:  # a manifest that was edited, or options of another version of gankit
        raise CheckpointError(
            f"{path}: its manifest does not match (the facts of '{manifest.model}': {error})"
        ) from error


def stated_halo(stated: Mapping[str, str]) -> int | None:
    """Return the halo in input pixels that gankit wrote into a file; ``None`` if there is none."""
    text = stated.get("halo", "")
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def _known(manifest: Manifest) -> Facts:
    facts = models.facts(manifest.model, dict(manifest.options))
    if facts.tileable and facts.halo is None:
        with torch.device("meta"):
            facts = replace(facts, halo=halo(models.build(manifest.model, dict(manifest.options))))
    kind, labels = _input(manifest)
    return replace(facts, input_kind=kind, labels=labels) if facts.task == "translate" else facts


def _stated(manifest: Manifest) -> Facts:
    made = manifest.dims[OUTPUT]
    channels, *sides = (made[axis] for axis in ((3, 1, 2) if manifest.output.get("layout") == "NHWC" else (1, 2, 3)))
    common: dict[str, Any] = {"name": manifest.model, "paper": "an exported file", "value_range": manifest.value_range}
    if manifest.takes == "latents":
        return Facts(
            task="generate",
            channels=channels,  # type: ignore[arg-type]
            latent=manifest.latent,
            classes=manifest.classes,
            output_size=tuple(sides),  # type: ignore[arg-type]
            **common,
        )
    shape = manifest.dims[str(manifest.input["name"])]
    taken = shape[3 if manifest.input.get("layout") == "NHWC" else 1]
    kind, labels = _input(manifest)
    task: Task = "upscale" if manifest.scale > 1 else "translate"
    stated = manifest.metadata.get("task")
    reach = stated_halo(manifest.metadata)
    return Facts(
        task=next((item for item in get_args(Task) if item == stated), task),
        scale=manifest.scale,
        channels=taken,  # type: ignore[arg-type]
        out_channels=None if channels == taken else channels,  # type: ignore[arg-type]
        multiple=manifest.multiple,
        minimum=manifest.minimum,
        tileable=reach is not None,
        halo=reach,
        input_kind=kind,
        labels=labels,
        **common,
    )


def _input(manifest: Manifest) -> tuple[InputKind, tuple[int, ...]]:
    stated = manifest.metadata.get("input_kind", "image")
    kind: InputKind = next((item for item in get_args(InputKind) if item == stated), "image")
    return kind, tuple(json.loads(manifest.metadata.get("labels", "[]")))
