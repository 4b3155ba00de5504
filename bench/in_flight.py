"""How many bytes each shape of the kernels' benchmark keeps in flight from memory, counted without a GPU.

``python -m bench.in_flight [80|90|100]`` writes ``bench/results/kernels_in_flight_sm_<target>.csv``: the launches,
their registers, and their bytes in flight per multiprocessor beside those that keep the memory of that GPU busy
(``tests/kernels/in_flight.py``).
"""

from __future__ import annotations

import csv
import sys
from functools import cache

import torch

from bench.common import ROOT
from bench.kernels import Shape, config_of, shapes
from tests.kernels.compiled import Compiled, Launch, compile_for, launches
from tests.kernels.in_flight import GPUS, Code, bytes_per_multiprocessor, read

COLUMNS = (
    "operation", "layout", "shape", "kernel", "programs", "warps", "registers", "in_flight_kib", "wanted_kib",
    "instructions_per_turn", "bytes_loaded_per_turn", "bytes_stored_per_turn",
)  # fmt: skip


def call(shape: Shape) -> None:
    """Launch the kernels of a shape's operation on tensors that are never filled."""
    from gankit_kernels.instance_norm import NormSpec
    from gankit_kernels.on_cuda.epilogue import launch as epilogue
    from gankit_kernels.on_cuda.instance_norm import launch as norm
    from gankit_kernels.on_cuda.pixel_shuffle import launch as shuffle
    from gankit_kernels.on_cuda.pixels import launch_from, launch_to
    from gankit_kernels.pixel_shuffle import ShuffleSpec
    from gankit_kernels.pixels import PixelsSpec, ValuesSpec
    from gankit_kernels.specs import EpilogueSpec

    half, last = torch.float16, shape.layout == "channels_last"
    layout = torch.channels_last if last else torch.contiguous_format
    size = (shape.samples, shape.channels, shape.height, shape.width)
    if shape.operation == "from_uint8":
        launch_from(torch.empty((size[0], *size[2:], size[1]), dtype=torch.uint8), ValuesSpec(-1.0, 1.0, half, last))
        return
    x = torch.empty(size, dtype=half, memory_format=layout)
    channel = torch.empty(shape.channels)
    if shape.operation == "to_uint8":
        launch_to(x, PixelsSpec(-1.0, 1.0, torch.uint8))
    elif shape.operation.startswith("epilogue"):
        other = torch.empty_like(x) if "residual" in shape.operation else None
        epilogue(x, channel.half(), None if "residual" in shape.operation else channel.half(), other, EpilogueSpec())
    elif shape.operation.startswith("shuffle"):
        shuffle(x, channel.half(), channel[:1].half(), ShuffleSpec(2, dcr=shape.operation.endswith("dcr")))
    else:
        other = torch.empty_like(x) if "residual" in shape.operation else None
        spec = NormSpec("relu", pad=1 if "border" in shape.operation else 0)
        norm(x, channel, channel, other, spec, config_of(shape))


def alike(launch: Launch, target: int) -> tuple[object, ...]:
    """Everything that a compilation depends on."""
    facts: list[object] = [launch.name, target, *sorted(launch.options.items())]
    for name, value in launch.arguments.items():
        if isinstance(value, torch.Tensor):
            facts.append((value.dtype, value.data_ptr() % 16))
        elif name.isupper() or (value == 1 and name == "column_stride"):
            facts.append(value)
        else:
            facts.append(type(value) if isinstance(value, float) else value < 2**31)
    return tuple(facts)


class Compiler:
    """Compiles each kernel once."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], tuple[Compiled, Code]] = {}

    def __call__(self, launch: Launch, target: int) -> tuple[Compiled, Code]:
        """Compile a launch for ``sm_<target>`` and read its machine code."""
        key = alike(launch, target)
        if key not in self._known:
            made = compile_for(launch, target)
            self._known[key] = made, read(made.cubin)
        return self._known[key]


def main(target: int) -> None:
    """Write the table of one architecture."""
    import gankit_kernels.on_cuda.instance_norm as norms

    gpu, compiler = GPUS[target], Compiler()
    norms.processors = cache(lambda device: gpu.sms)  # type: ignore[assignment]
    path = ROOT / "bench" / "results" / f"kernels_in_flight_sm_{target}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for shape in shapes():
            for launch in launches(lambda item=shape: call(item)):
                made, code = compiler(launch, target)
                kibibytes = bytes_per_multiprocessor(gpu, made, code, launch) / 1024
                # the longest loop: the others process what is left over
                turn = max(code.loops, key=lambda loop: loop[1], default=("", "", ""))
                writer.writerow(
                    (shape.operation, shape.layout, shape.size, launch.name, launch.programs,
                     launch.options["num_warps"], made.registers, round(kibibytes, 1), gpu.wanted >> 10, *turn)
                )  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 90)
