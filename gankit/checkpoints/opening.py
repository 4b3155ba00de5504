"""A registry name or a weights file -> a ready generator with its facts."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from gankit_export.manifest import manifest_path
from torch import Tensor, nn

from gankit import models
from gankit.checkpoints.directions import holds_direction
from gankit.checkpoints.engine_files import KINDS, open_engine_file
from gankit.checkpoints.files import read
from gankit.checkpoints.layouts import Match, recognise
from gankit.checkpoints.layouts.folding import with_mean, with_values
from gankit.checkpoints.native import declared, with_input
from gankit.checkpoints.shipped import card_of, weights_path
from gankit.checkpoints.spandrel_models import open_with_spandrel
from gankit.checkpoints.structure import by_structure
from gankit.checkpoints.types import Loaded
from gankit.errors import CheckpointError, UsageError
from gankit.models.facts import AtTest, Direction

_log = logging.getLogger(__name__)


def load(name_or_path: str | Path) -> nn.Module:
    """The generator alone; see :func:`open_model`."""
    return open_model(name_or_path).generator


def open_model(
    name_or_path: str | Path,
    *,
    direction: Direction | None = None,
    norm: AtTest | None = None,
    options: Mapping[str, Any] | None = None,
) -> Loaded:
    """Load a generator.

    Args:
        name_or_path: the name of weights that ship with gankit, or a weights file: gankit's own, one with a layout in
            ``checkpoints/layouts``, an upscaler that an installed spandrel knows, an ONNX
            file, an OpenVINO IR, or an engine file (TensorRT, AOTInductor, ncnn) that gankit exported.
        direction: which of CycleGAN's two generators to load, the one from A to B or from B to A. They are told apart
            by the keys of a file that holds both, or by the names of two files (``…_G_A.pth`` and ``…_G_B.pth``), of
            which either may be given.
        norm: statistics that a BatchNorm uses: ``"instance"``, the image's own, or ``"eval"``, the running ones;
            ``None`` for the model's default, which is its paper's.
        options: of the model, in place of those that were recognised from the keys. They are for what no key records,
            such as the ``activation`` of an ``srvgg`` or the ``bn_eps`` of an ``srgan``;
            :func:`gankit.models.known_options` has their names.

    Returns:
        The generator in fp32 and eval mode, on the CPU, with its facts and the file's sha256.

    Raises:
        UsageError: there are no weights of this name, and no such file.
        CheckpointError: the file is missing, broken, unsafe or of an unknown architecture, or does not fit an option.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        kind = f"{type(name_or_path).__module__}.{type(name_or_path).__qualname__}"
        raise UsageError(f"a model cannot be of type {kind}: give a name or a weights file")
    if isinstance(name_or_path, str) and models.is_known(name_or_path):
        return _open_shipped(name_or_path, direction, norm, options)
    path = Path(name_or_path)
    looks_like_name = isinstance(name_or_path, str) and not path.suffix and len(path.parts) <= 1
    if looks_like_name and os.sep not in str(name_or_path) and not os.path.lexists(name_or_path):
        raise models.unknown(str(name_or_path))
    return _open_file(path, direction, norm, options)


def _open_shipped(
    name: str, direction: Direction | None, norm: AtTest | None, options: Mapping[str, Any] | None
) -> Loaded:
    path = weights_path(name)
    if direction is not None and not holds_direction(path):
        raise UsageError(f"'{name}' has one direction only: omit --direction")
    if not path.is_file():
        raise CheckpointError(
            f"{path}: the weights of '{name}' are not installed: reinstall gankit, or give a weights file"
        )
    loaded = _open_file(path, direction, norm, options)
    if loaded.sha256 != card_of(loaded.path)["sha256"]:
        raise CheckpointError(f"{loaded.path}: differs from the checksum in its card: reinstall gankit")
    return loaded


def _open_file(
    path: Path,
    direction: Direction | None = None,
    norm: AtTest | None = None,
    options: Mapping[str, Any] | None = None,
) -> Loaded:
    if (opener := _opener(path)) is not None:
        if direction is not None or norm is not None or options:
            raise UsageError(f"{path}: --direction, --norm and --model-option apply to weights, not to exported files")
        return opener(path)
    stored = read(path, direction)
    found = declared(path, stored.tensors, stored.metadata)
    try:
        try:
            found = found or recognise(stored.tensors)
        except CheckpointError as unknown:
            if norm is None and not options:
                try:
                    return open_with_spandrel(path, stored, unknown)
                except CheckpointError as error:
                    failure = error
            else:
                failure = CheckpointError(f"{unknown}; --norm and --model-option work with these only")
            found = by_structure(stored.tensors, options, ordered=stored.ordered)
            if found is None:
                raise failure from unknown
            assumed = f", assuming {found.assumed} (--model-option changes what is an option)" if found.assumed else ""
            _log.warning("%s: recognised by %s%s", path, found.recognised, assumed)
        if norm is not None and norm != (options or {}).get("norm_at_test", norm):
            raise UsageError(f"--norm {norm} and --model-option norm_at_test contradict each other: give one of them")
        found = _with_norm(_with_options(found, options or {}), norm)
        facts = models.facts(found.model, found.options)
        with torch.device("meta"):  # shapes first: no memory, no random numbers
            generator = models.build(found.model, found.options)
    except RecursionError as error:  # options nested more deeply than can be shown
        raise CheckpointError(f"{path}: damaged options: save or download the file again") from error
    except (UsageError, CheckpointError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    _fill(path, generator, found)
    return Loaded(
        generator.eval().requires_grad_(False),
        with_input(path, facts, stored.metadata),
        stored.sha256,
        stored.path or path,
        found.recognised,
        found.assumed,
    )


def _opener(path: Path) -> Callable[[Path], Loaded] | None:
    """Return the function that opens an exported file; ``None`` for a weights file."""
    suffix = path.suffix.lower()
    if suffix in (".onnx", ".xml"):
        return _open_graph
    if suffix == ".param" and not manifest_path(path).exists():
        return None  # an ncnn model of others, of which the reader of weights files says what to give instead
    return open_engine_file if suffix in KINDS else None


def _open_graph(path: Path) -> Loaded:
    """Open an ONNX file or an OpenVINO IR, and report what was found."""
    if path.suffix.lower() == ".onnx":
        from gankit.checkpoints.onnx_models import open_onnx_model as opener
    else:
        from gankit.checkpoints.ir_models import open_ir as opener
    loaded = opener(path)
    _log.warning("%s: by %s%s", path, loaded.recognised, f"; assuming {loaded.assumed}" if loaded.assumed else "")
    return loaded


def _with_options(found: Match, options: Mapping[str, Any]) -> Match:
    """The same weights in a generator with other options.

    Raises:
        UsageError: the model has no such option, or the option has a value that is not allowed.
    """
    if not options:
        return found
    chosen = {**found.options, **options}
    try:
        facts = models.facts(found.model, chosen)
    except ValueError as error:
        raise UsageError(f"{error} ('gankit models {found.model}' lists the options)") from error
    except TypeError as error:
        raise UsageError(str(error)) from error
    state = found.state
    if "values_in" in models.known_options(found.model) and options.keys() & {"values_in", "output"}:
        # the constants of the layers at the ends are weights, and follow the options
        state = {name: value for name, value in state.items() if not name.startswith(("entrance.", "exit."))}
        ends = facts.options.get("values_in", "unit"), facts.options.get("output", "linear")
        state = with_values(state, facts.channels, *ends)
    if "mean" in options:
        state = with_mean(state, facts.options.get("mean"), facts.options["tail"])
    return replace(found, options=chosen, state=state)


def _with_norm(found: Match, norm: AtTest | None) -> Match:
    """The same weights in a generator whose BatchNorms use other statistics."""
    if norm is None:
        return found
    options = dict(models.facts(found.model, found.options).options)
    if options.get("norm") != "batch" or "norm_at_test" not in options:
        raise UsageError(f"'{found.model}' has no BatchNorm with a choice of statistics: omit --norm")
    if norm == "eval" and not any(name.endswith(".running_mean") for name in found.state):
        raise UsageError("holds no running statistics of its BatchNorms: omit --norm eval")
    return replace(found, options={**options, "norm_at_test": norm})


def _fill(path: Path, generator: nn.Module, found: Match) -> None:
    """Put checked float32 copies of the weights into a generator that was built on the meta device."""
    state = {name: value for name, value in found.state.items() if not name.endswith("num_batches_tracked")}
    wanted = generator.state_dict()
    state = {name: value for name, value in state.items() if name in wanted or not _idle(name, wanted)}
    counters = {name: torch.zeros((), dtype=torch.int64) for name in wanted if name.endswith("num_batches_tracked")}
    _check(path, found.model, state, {name: value for name, value in wanted.items() if name not in counters})
    # contiguous copies of our own: the file's tensors may be views of each other
    weights = {
        name: value.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        for name, value in state.items()
    }
    generator.load_state_dict({**weights, **counters}, assign=True)


def _idle(name: str, wanted: Mapping[str, Tensor]) -> bool:
    """Whether a weight is a running statistic of a layer that uses the image's own statistics."""
    layer, _, last = name.rpartition(".")
    return last in ("running_mean", "running_var") and f"{layer}.weight" in wanted


def _check(path: Path, model: str, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    missing, unexpected = [k for k in wanted if k not in state], [k for k in state if k not in wanted]
    if missing or unexpected:
        parts = [
            f"{_some(names)} {what}" for names, what in ((missing, "missing"), (unexpected, "unexpected")) if names
        ]
        raise CheckpointError(
            f"{path}: does not fit '{model}': {', '.join(parts)}: give a complete, unchanged state dict"
        )
    for name, value in state.items():
        if value.shape != wanted[name].shape:
            raise CheckpointError(
                f"{path}: does not fit '{model}': '{name}' is {list(value.shape)}, should be {list(wanted[name].shape)}"
            )
        if not value.is_floating_point() or value.layout != torch.strided:
            raise CheckpointError(
                f"{path}: '{name}' is {value.dtype}, {value.layout}: give plain floating-point weights"
            )
    broken = [name for name, value in state.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise CheckpointError(
            f"{path}: NaN or infinite weights in {_some(broken)}: use an earlier or intact checkpoint"
        )


def _some(names: Sequence[str]) -> str:
    """The first name, and how many more."""
    return f"'{names[0]}'" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
