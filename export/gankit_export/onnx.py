"""nn.Module -> one ONNX file with named dynamic sides."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from gankit_export.files import atomic_path
from gankit_export.formats import INPUT, OUTPUT, InOut
from gankit_export.messages import first_line
from gankit_export.tracing import ONE_AT_A_TIME

_LARGEST_SIDE = 16384
CONVOLUTIONS, PRODUCTS = ("Conv", "ConvTranspose"), ("Gemm", "MatMul")
_HALF = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


class ExportError(RuntimeError):
    """The exporter cannot make a valid file of this module."""


def default_opset(precision: str) -> int:
    """The oldest opset that can say it, which most runtimes read: 18, or 23 for bf16 (bf16 Conv came with 22)."""
    return 23 if precision == "bf16" else 18


def export_onnx(
    module: nn.Module,
    path: Path | str,
    *,
    example_hw: tuple[int, int] | None = None,
    channels: int = 3,
    multiple: int = 1,
    opset: int = 18,
    dtype: torch.dtype = torch.float32,
    in_out: InOut = "float32",
    quick: bool = False,
) -> None:
    """Write ``module`` as ONNX; the file appears whole and checked, or not at all.

    Args:
        module: one (N, C, H, W) tensor to one, in eval mode, in its final precision (see ``precision.typed``).
        path: the ``.onnx`` file; replaced if there. All weights are inside.
        example_hw: height and width that the exporter runs with; ``None`` chooses. They must differ, and exceed 1 at
            every depth of the network: the exporter takes what is equal or 1 there for a constant.
        channels: of the input.
        multiple: input sides must be a multiple of this.
        opset: see :func:`default_opset`.
        dtype: of the input.
        in_out: ``"uint8"`` for a module that takes and gives (N, H, W, C) uint8 (see ``pixel_edges``).
        quick: whether to try torch's older exporter first, which takes a second where the other takes five to ten. It
            writes what the example does, so the module must do the same for all sizes, like one that torch.fx traced,
            and the caller must compare the file with the module at other sizes.

    Raises:
        ValueError: ``example_hw`` is no multiple.
        ExportError: the module has no graph, a side came out fixed, or the checker objects.
        OSError: the file cannot be written.
    """
    unit = -(-16 // multiple) * multiple
    height, width = example_hw or (3 * unit, 4 * unit)
    if height % multiple or width % multiple or height == width:
        raise ValueError(f"example_hw must be two different multiples of {multiple}, not {height} and {width}")
    example, shapes = example_images((height, width), channels, multiple, dtype, in_out)
    if quick:
        try:
            return _write_quickly(module, example, Path(path), opset, tuple(shapes))
        except OSError:
            raise
        except Exception as error:  # it is no longer developed: a new torch may lack it, or it may lack an operation
            if interrupted(error):
                raise KeyboardInterrupt from error
    write_onnx(module, {INPUT: example}, [shapes], Path(path), opset=opset, axes=tuple(shapes))


def _write_quickly(module: nn.Module, example: Tensor, path: Path, opset: int, axes: Sequence[int]) -> None:
    """Export by torch's older exporter."""
    free = {name: {axis: f"{name}_{axis}" for axis in axes} for name in (INPUT, OUTPUT)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path, suffix=path.suffix) as temporary:
        with quiet(), ONE_AT_A_TIME, torch.no_grad():
            torch.onnx.export(
                module.eval(),
                (example,),
                str(temporary),
                dynamo=False,
                opset_version=opset,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes=free,
            )
        check(temporary, axes)


def example_images(
    sides: tuple[int, int],
    channels: int,
    multiple: int,
    dtype: torch.dtype = torch.float32,
    in_out: InOut = "float32",
) -> tuple[Tensor, dict[int, Any]]:
    """Return an example of a batch of images for ``torch.export``, and its free axes.

    Args:
        sides: height and width of the example.
        channels: of the images.
        multiple: input sides must be a multiple of this.
        dtype: of float images.
        in_out: as in :func:`export_onnx`.
    """
    example = torch.rand(2, channels, *sides)  # batch 2: an example of 1 fixes it
    batch, height, width = Dim("batch", min=1, max=1024), _side("height", multiple), _side("width", multiple)
    if in_out == "uint8":
        return (255 * example).byte().permute(0, 2, 3, 1).contiguous(), {0: batch, 1: height, 2: width}
    return example.to(dtype), {0: batch, 2: height, 3: width}


def write_onnx(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    dynamic_shapes: Sequence[Mapping[int, Any]],
    path: Path,
    *,
    opset: int,
    axes: Sequence[int],
) -> None:
    """Export a module of one output; the file appears whole and checked, or not at all.

    Args:
        module: what to export.
        inputs: an example of each input, by the name that it gets in the file.
        dynamic_shapes: of each input, the axes that are free.
        path: the file to write.
        opset: of the file.
        axes: that must have come out free, of every input and of the output.

    Raises:
        ExportError: the module has no graph, an axis came out fixed, or the checker objects.
        OSError: the file cannot be written.
    """
    try:
        with quiet(), ONE_AT_A_TIME:
            program = torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                dynamo=True,
                opset_version=opset,
                input_names=[*inputs],
                output_names=[OUTPUT],
                dynamic_shapes=tuple(dynamic_shapes),
                external_data=False,
                optimize=True,
                verify=False,
                verbose=False,
            )
    except Exception as error:  # the exporter raises many kinds, each with pages of text
        if interrupted(error):
            raise KeyboardInterrupt from error
        raise ExportError(f"{type(module).__name__} cannot be exported: {first_line(error)}") from error
    if program is None:
        raise ExportError(f"{type(module).__name__} cannot be exported: the exporter returned nothing")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path, suffix=path.suffix) as temporary:
        program.save(temporary, external_data=False)
        check(temporary, axes)


def check(path: Path, axes: Sequence[int] = (0, 2, 3)) -> None:
    """Hold a file against the ONNX checker and against what :func:`write_onnx` promises.

    Args:
        path: of the file.
        axes: that must be free, of every input and output.

    Raises:
        ExportError: it fails.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the ONNX checker objects: {first_line(error)}") from error
    graph = onnx.load(str(path), load_external_data=False).graph
    if any(item.data_location == onnx.TensorProto.EXTERNAL for item in graph.initializer):
        raise ExportError("weights came out in a second file")
    for axis in axes:
        if not all(value.type.tensor_type.shape.dim[axis].dim_param for value in (*graph.input, *graph.output)):
            raise ExportError(f"axis {axis} came out fixed; take another example_hw, or rewrite the module")


def describe(path: Path, facts: Mapping[str, str]) -> None:
    """Write facts into ``metadata_props`` of an ONNX file, from which every runtime reads them.

    Args:
        path: of the file, which has no external data.
        facts: texts by name. They replace entries of the same name, and other entries stay.

    Raises:
        OSError: the file cannot be read or written.
    """
    model = onnx.load(str(path))
    merged = {item.key: item.value for item in model.metadata_props} | dict(facts)
    onnx.helper.set_model_props(model, merged)
    with atomic_path(path, suffix=path.suffix) as temporary:
        onnx.save(model, str(temporary))


def half_convolutions(path: Path, kinds: tuple[str, ...] = CONVOLUTIONS) -> tuple[int, int]:
    """How many convolutions of a file have fp16 or bf16 weights, and how many there are: the proof of its precision.

    Args:
        path: of the file.
        kinds: of nodes that are counted.
    """
    graph = onnx.load(str(path), load_external_data=False).graph
    types = {item.name: item.data_type for item in graph.initializer}
    types |= {item.name: item.type.tensor_type.elem_type for item in graph.value_info}
    convolutions = [node for node in graph.node if node.op_type in kinds]
    return sum(types.get(node.input[1]) in _HALF for node in convolutions), len(convolutions)


def dims(path: Path) -> dict[str, list[int | str]]:
    """Shapes of the input and output; a dynamic side is its name or an expression of names, such as ``"4*height"``."""
    graph = onnx.load(str(path), load_external_data=False).graph
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }


def _side(name: str, multiple: int) -> object:
    largest = _LARGEST_SIDE // multiple
    return Dim(name, min=1, max=largest) if multiple == 1 else multiple * Dim(name, min=1, max=largest)


def interrupted(error: BaseException | None) -> bool:
    """Whether it was Ctrl-C that the exporter took for a failure of its own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's advice to its own developers away from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
