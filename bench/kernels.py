"""The content of the kernels' benchmark: shapes, ideal bytes, predicted times, the table and its plot.

The ideal bytes are those of reading every input once and writing every output once. The prediction divides them by the
bandwidth of a device copy. It ignores launches, caches, and the second read of a plane that is too large to keep.
"""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from gankit_kernels import epilogue, from_uint8, instance_norm, pixel_shuffle, to_dcr, to_uint8
from gankit_kernels.tensors import processors
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from gankit_kernels.on_cuda.instance_norm import InstanceNormConfig

COPY_BYTES_PER_SECOND = 4.3e12  # an H200's published bandwidth; every run measures the copy again
LAUNCH_SECONDS = 2e-6  # the shortest time of a kernel, however few its bytes
ONE, SEVERAL = ", one launch", ", several launches"  # after the name of a norm, in channels_last
Layout = Literal["planes", "channels_last"]
Run = Callable[[], Any]


@dataclass(frozen=True)
class Shape:
    """One line of the benchmark.

    Attributes:
        operation: Name of the operation.
        layout: Memory layout of the images.
        samples: Images per batch.
        channels: Channels of the source.
        height: Height of the source.
        width: Width of the source.
        model: The generator, and the place in it, that has this shape.
    """

    operation: str
    layout: Layout
    samples: int
    channels: int
    height: int
    width: int
    model: str

    def __str__(self) -> str:
        return f"{self.operation}, {self.layout}, {self.size}"

    @property
    def size(self) -> str:
        """The shape as text."""
        return f"{self.samples}×{self.channels}×{self.height}×{self.width}"

    @property
    def values(self) -> int:
        """Number of values in the source."""
        return self.samples * self.channels * self.height * self.width

    @property
    def bytes(self) -> int:
        """Ideal memory traffic in fp16."""
        if self.operation in ("from_uint8", "to_uint8"):
            return 3 * self.values
        written = self.values
        if "border" in self.operation:
            written = self.samples * self.channels * (self.height + 2) * (self.width + 2)
        read = self.values * (2 if "residual" in self.operation else 1)
        return 2 * (read + written)


@dataclass(frozen=True)
class Measured:
    """One row of the table, with times in µs. A figure that was not measured is ``None``, and empty in the file."""

    operation: str
    layout: str
    shape: str
    model: str
    ideal_bytes: int
    predicted_us: float
    eager_us: float | None = None
    compile_us: float | None = None
    gankit_us: float | None = None
    copy_us: float | None = None
    gankit_gb_per_s: float | None = None
    percent_of_copy: float | None = None


def config_of(shape: Shape, sms: int = 132) -> InstanceNormConfig | None:
    """How the work of a norm is divided; ``None`` for what gankit chooses, and for shapes without the asked way.

    Args:
        shape: The line of the benchmark. ``one launch`` in its operation asks for one, ``several`` for the others.
        sms: Number of multiprocessors, an H200's by default.
    """
    from gankit_kernels.on_cuda.instance_norm import InstanceNormConfig

    size = (shape.samples, shape.channels, shape.height, shape.width)
    if shape.layout == "channels_last" and shape.operation.endswith(ONE):
        return InstanceNormConfig.alone_pixels(size, 2, sms)
    if shape.layout == "channels_last" and shape.operation.endswith(SEVERAL):
        border = 1 if "border" in shape.operation else 0
        return InstanceNormConfig.of_pixels(size, border, 2, sms, indexed=border > 0)
    return None


def shapes() -> Iterator[Shape]:
    """CycleGAN's and SRGAN's layers with 1, 8 and 32 images, and with one 1080p image."""
    layouts: tuple[Layout, ...] = ("planes", "channels_last")
    for layout in layouts:
        for operation in ("norm+relu", "norm+relu+residual", "norm+relu+border"):
            for samples in (1, 8, 32):
                yield Shape(operation, layout, samples, 256, 64, 64, "CycleGAN trunk, 256×256")
                yield Shape(operation, layout, samples, 64, 256, 256, "CycleGAN ends, 256×256")
            if layout == "channels_last":
                for samples in (1, 8, 32):
                    yield Shape(f"{operation}{ONE}", layout, samples, 256, 64, 64, "CycleGAN trunk, 256×256")
                yield Shape(f"{operation}{ONE}", layout, 8, 128, 128, 128, "CycleGAN middle, 256×256")
            yield Shape(operation, layout, 1, 64, 1080, 1920, "CycleGAN ends, 1080p")
        for operation in ("shuffle ×2+bias+prelu", "shuffle ×2+bias+prelu, dcr"):
            for samples in (1, 8, 32):
                yield Shape(operation, layout, samples, 256, 64, 64, "SRGAN ×4, first stage of 64×64")
                yield Shape(operation, layout, samples, 256, 128, 128, "SRGAN ×4, second stage of 64×64")
            yield Shape(operation, layout, 1, 256, 270, 480, "SRGAN ×4, first stage to 1080p")
            yield Shape(operation, layout, 1, 256, 540, 960, "SRGAN ×4, second stage to 1080p")
        for operation in ("epilogue bias+prelu", "epilogue bias+residual"):
            yield Shape(operation, layout, 8, 64, 256, 256, "SRGAN body, 256×256")
            yield Shape(operation, layout, 1, 64, 1080, 1920, "SRGAN body, 1080p")
        for operation in ("from_uint8", "to_uint8"):
            yield Shape(operation, layout, 1, 3, 1080, 1920, "a 1080p image")
            yield Shape(operation, layout, 32, 3, 256, 256, "tiles")


def predicted(shape: Shape) -> Measured:
    """The row of a shape before any measurement."""
    seconds = max(LAUNCH_SECONDS, shape.bytes / COPY_BYTES_PER_SECOND)
    return Measured(shape.operation, shape.layout, shape.size, shape.model, shape.bytes, round(seconds * 1e6, 2))


def providers(shape: Shape, device: str) -> tuple[Run, Run]:
    """The operation with torch's own functions, and with gankit's."""
    layout = torch.channels_last if shape.layout == "channels_last" else torch.contiguous_format
    size = (shape.samples, shape.channels, shape.height, shape.width)

    def made() -> Tensor:
        return torch.randn(size, device=device, dtype=torch.float16).contiguous(memory_format=layout)

    operation = shape.operation
    if operation == "from_uint8":
        pixels = torch.randint(0, 256, (size[0], *size[2:], size[1]), device=device, dtype=torch.uint8)
        plain = lambda: ((pixels.permute(0, 3, 1, 2).float() * (2 / 255)) - 1).half().contiguous(memory_format=layout)  # noqa: E731
        return plain, lambda: from_uint8(pixels, low=-1.0, dtype=torch.float16, memory_format=layout)
    x = made()
    if operation == "to_uint8":
        plain = lambda: ((x.float() + 1) * 127.5).clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()  # noqa: E731
        return plain, lambda: to_uint8(x, low=-1.0)
    if operation.startswith("shuffle"):
        bias, prelu = torch.randn(shape.channels, device=device).half(), torch.full((1,), 0.25, device=device).half()
        dcr = operation.endswith("dcr")
        other = to_dcr(bias, 2) if dcr else bias
        source = to_dcr(x.transpose(0, 1), 2).transpose(0, 1).contiguous(memory_format=layout) if dcr else x
        plain = lambda: F.prelu(F.pixel_shuffle(x + bias[:, None, None], 2), prelu)  # noqa: E731
        return plain, lambda: pixel_shuffle(source, 2, bias=other, prelu=prelu, order="dcr" if dcr else "crd")
    if operation.startswith("epilogue"):
        bias, slopes = torch.randn(2, shape.channels, device=device).half()
        if "residual" in operation:
            other = made()
            return lambda: x + bias[:, None, None] + other, lambda: epilogue(x, bias, residual=other)
        return lambda: F.prelu(x + bias[:, None, None], slopes), lambda: epilogue(x, bias, prelu=slopes)
    weight, bias = torch.randn(2, shape.channels, device=device)
    residual = made() if "residual" in operation else None
    pad = 1 if "border" in operation else 0
    half = weight.half(), bias.half()

    def norm() -> Tensor:
        y = F.relu(F.instance_norm(x, weight=half[0], bias=half[1]))
        y = y if residual is None else y + residual
        return F.pad(y, (pad,) * 4, mode="reflect") if pad else y

    config = config_of(shape, processors(torch.device(device)))
    return norm, lambda: instance_norm(x, weight, bias, residual=residual, activation="relu", pad=pad, config=config)


def measure(shape: Shape, device: str = "cuda") -> Measured:
    """Measure the providers and a copy of the same number of bytes: medians, with caches flushed between runs."""
    from triton.testing import do_bench

    row = predicted(shape)
    plain, ours = providers(shape, device)
    wanted, result = plain(), ours()
    assert wanted.shape == result.shape
    torch.testing.assert_close(
        result.float(), wanted.float(), rtol=2e-2, atol=2e-2 if result.is_floating_point() else 1
    )
    torch.compiler.reset()
    compiled = torch.compile(plain, mode="max-autotune-no-cudagraphs", fullgraph=True)
    source = torch.empty(shape.bytes // 2, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    runs: tuple[Run, ...] = (plain, compiled, ours, lambda: target.copy_(source))
    times = [float(do_bench(run, return_mode="median")) * 1e3 for run in runs]
    eager, inductor, gankit, copy = (round(time, 2) for time in times)
    rate = round(shape.bytes / times[2] / 1e3, 1)
    return replace(
        row, eager_us=eager, compile_us=inductor, gankit_us=gankit, copy_us=copy,
        gankit_gb_per_s=rate, percent_of_copy=round(100 * times[3] / times[2], 1),
    )  # fmt: skip


def gpu() -> str:
    """The GPU, its driver and the versions of torch and Triton; without a GPU, the versions alone."""
    words = [f"{name} {_version(name)}" for name in ("torch", "triton")]
    if torch.cuda.is_available():
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "-i", "0"]
        driver = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        words = [torch.cuda.get_device_name(0), f"driver {driver}", f"CUDA {torch.version.cuda}", *words]
    else:
        words = ["no GPU: predicted only", *words]
    return ", ".join(words)


def write(path: Path, rows: Sequence[Measured]) -> None:
    """Write the table, whose first line names the machine, and a plot beside it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(f"# {gpu()}; ideal bytes over {COPY_BYTES_PER_SECOND / 1e12:.1f} TB/s make predicted_us\n")
        writer = csv.writer(file, lineterminator="\n")
        names = [field.name for field in fields(Measured)]
        writer.writerow(names)
        writer.writerows(["" if (value := getattr(row, name)) is None else value for name in names] for row in rows)
    path.with_suffix(".svg").write_text(_plot(rows), encoding="utf-8")


def _plot(rows: Sequence[Measured]) -> str:
    """Draw bars of the times in units of the predicted one; a row that was not measured shows the prediction."""
    colours = {
        "predicted_us": "#bbbbbb",
        "copy_us": "#888888",
        "eager_us": "#d1495b",
        "compile_us": "#edae49",
        "gankit_us": "#00798c",
    }
    line, left, width, top = 12, 430, 420, 40
    lines: list[str] = []
    y = top
    for row in rows:
        known = [(name, getattr(row, name)) for name in colours if getattr(row, name) is not None]
        lines.append(
            f'<text x="{left - 8}" y="{y + 10}" text-anchor="end">{row.operation}, {row.layout}, {row.shape}</text>'
        )
        for name, value in known:
            length = min(width, width * value / row.predicted_us / 6)
            lines.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{line - 3}" fill="{colours[name]}"/>')
            lines.append(f'<text x="{left + length + 4:.1f}" y="{y + 9}">{value:g} µs</text>')
            y += line
        y += 4
    legend = "".join(
        f'<rect x="{left + 90 * index}" y="12" width="10" height="10" fill="{colour}"/>'
        f'<text x="{left + 14 + 90 * index}" y="21">{name.removesuffix("_us")}</text>'
        for index, (name, colour) in enumerate(colours.items())
    )
    size = f'width="{left + width + 90}" height="{y + 10}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="10">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', legend, *lines, "</svg>", ""])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
