"""What the benchmarks share: the images, the rows of the closing table, and all that they use of gankit's inside.

The second half of this file is the only place where the benchmarks of engines and folders reach into gankit. The list
of backends is :data:`gankit.backends.BACKENDS`, so a new backend is measured without a change here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import nn

    from gankit.backends.base import Engine
    from gankit.checkpoints import Loaded
    from gankit.models.facts import Facts

ROOT = Path(__file__).resolve().parents[1]
EAGER = "plain PyTorch"
ONNXRUNTIME = "plain ONNX Runtime"
OPENVINO = "plain OpenVINO"
GATE_DB = 45.0
STEADY = 0.10


@dataclass(frozen=True)
class Row:
    """One line of the closing table.

    Attributes:
        suite: rows of one suite did the same work, in the same rounds; ratios are taken within it.
        label: what ran: a baseline, or gankit's backend.
        milliseconds: median over the rounds, of one image; NaN where it failed.
        megapixels: of input, in one image.
        parity_db: PSNR against plain PyTorch in fp32; ``None`` where there is no image.
        remark: in a few words.
        precision: that it ran in.
        device: that it ran on.
        threads: CPU threads.
        model: the generator's name.
        size: of the input, in pixels.
        rounds: timed runs.
        spread: slowest less fastest run, over the median; ``None`` for fewer than two runs.
        peak_mib: largest resident memory of its process, in MiB.
        start_seconds: from the start of its process to its first result.
        gflop: arithmetic of the convolutions and matrix products of one image, in 10⁹ operations.
    """

    suite: str
    label: str
    milliseconds: float
    megapixels: float = 0.0
    parity_db: float | None = None
    remark: str = ""
    precision: str = ""
    device: str = ""
    threads: int | None = None
    model: str = ""
    size: str = ""
    rounds: int | None = None
    spread: float | None = None
    peak_mib: float | None = None
    start_seconds: float | None = None
    gflop: float = 0.0

    @property
    def speed(self) -> float:
        """Input megapixels per second."""
        return self.megapixels / self.milliseconds * 1e3

    @property
    def gflops(self) -> float:
        """Arithmetic per second, in 10⁹ operations."""
        return self.gflop / self.milliseconds * 1e3

    @property
    def unstable(self) -> bool:
        """Whether the runs differ by more than a tenth of their median."""
        return self.spread is not None and self.spread > STEADY

    @property
    def below_gate(self) -> bool:
        """Whether it made other images."""
        return self.parity_db is not None and self.parity_db < GATE_DB


def ratio(row: Row, rows: Sequence[Row], baseline: str) -> float | None:
    """How many times faster a row is than a baseline of the same suite.

    ``None`` where the baseline did not run, and for an engine below the gate: it makes other images.
    """
    if row.below_gate:
        return None
    times = [other.milliseconds for other in rows if (other.suite, other.label) == (row.suite, baseline)]
    return times[0] / row.milliseconds if times else None


def spread(seconds: Sequence[float]) -> float | None:
    """Slowest less fastest run, over the median; ``None`` for fewer than two."""
    return (max(seconds) - min(seconds)) / float(np.median(seconds)) if len(seconds) > 1 else None


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """PSNR of two uint8 images in dB; infinite for equal ones."""
    error = float(np.mean((image.astype(np.float64) - truth.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def data_folder() -> Path:
    """The folder of real images: GANKIT_DATA, else shared/data beside the repository. It may be absent."""
    return Path(os.environ.get("GANKIT_DATA") or ROOT.parent / "shared" / "data")


def images() -> tuple[str, list[Path]]:
    """The name and files of the folder to run on: Kodak's 24, or the RGB examples where they are absent."""
    kodak = sorted((data_folder() / "kodak24").glob("*.png"))
    if kodak:
        return "kodak24", kodak
    return "examples", [ROOT / "examples" / name for name in ("cat.png", "coffee.jpg", "rocket.jpg")]


def read(path: Path) -> np.ndarray:
    """An image as (H, W, 3) uint8."""
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def real_tile(side: int) -> np.ndarray:
    """A (side, side, 3) uint8 tile from the middle of a real image, mirrored where the image is smaller."""
    pixels = read(images()[1][-1])
    height, width = pixels.shape[:2]
    pixels = np.pad(pixels, ((0, max(0, side - height)), (0, max(0, side - width)), (0, 0)), mode="symmetric")
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


# What follows is all that the benchmarks use of gankit's inside.


def engines(loaded: Loaded, *, every: bool = True) -> Iterator[tuple[str, str, str]]:
    """Backend, precision and device of every engine that can run here.

    Args:
        loaded: the generator and its facts.
        every: otherwise each backend in its fastest precision only, without those that compile for minutes.
    """
    from gankit import backends
    from gankit.backends.base import EngineSpec
    from gankit.backends.choice.candidates import devices, offered
    from gankit.backends.choice.machine import machine

    for name in backends.BACKENDS:
        backend = backends.get(name)
        if backend.slow_start and not every:
            continue
        for device in sorted(devices()):
            found = list(offered(backend, EngineSpec(loaded.generator, loaded.facts, device=device)))
            if not every:
                slow = {"bf16"} if device == "cpu" and not machine().fast_bf16 else set()
                found = [item for item in found if item not in slow][-1:]
            yield from ((name, precision, device) for precision in found)


def load_engine(
    generator: nn.Module, facts: Facts, backend: str, precision: Any, device: str, *, kernels: bool = True
) -> Engine:
    """One engine.

    Args:
        generator: in fp32 and eval mode.
        facts: its facts.
        backend: its name.
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"``.
        device: where it runs.
        kernels: run gankit's own kernels on a GPU.
    """
    from gankit import backends
    from gankit.backends.base import EngineSpec

    return backends.get(backend).load(EngineSpec(generator, facts, precision, device, kernels=kernels))


def export_once(generator: nn.Module, facts: Facts) -> None:
    """Put the generator's ONNX file into gankit's cache, so that every engine starts with it, as in a second run."""
    from gankit.backends.artefacts import open_onnx
    from gankit.backends.base import EngineSpec

    open_onnx(EngineSpec(generator, facts), lambda path: path)


def load_network(
    generator: nn.Module, facts: Facts, precision: Any, device: str, *, kernels: bool = True, compiled: bool = False
) -> nn.Module:
    """What the eager engine runs on a device: values in, values out, both there; arguments as :func:`load_engine`.

    With ``compiled``, what the backend ``compile`` compiles.
    """
    from gankit.backends.base import EngineSpec
    from gankit.backends.modules import ready

    return ready(EngineSpec(generator, facts, precision, device, kernels=kernels), compiled=compiled)


def load_pipeline(task: str, model: str, backend: str, precision: str, device: str) -> Any:
    """An ``Upscaler`` or a ``Translator``."""
    import gankit

    kind = {"upscale": gankit.Upscaler, "translate": gankit.Translator}[task]
    return kind(model, backend=backend, precision=precision, device=device)


def engine_threads() -> int:
    """CPU threads of gankit's engines where no number is asked for."""
    from gankit.backends.cpu.threads import default_threads

    return default_threads()


def gigaflop(loaded: Loaded, height: int, width: int) -> float:
    """Arithmetic of one image, in 10⁹ operations."""
    from gankit.models.cost import cost

    return 2 * cost(loaded.generator, (loaded.facts.channels, height, width)).macs / 1e9


def machine_facts() -> dict[str, Any]:
    """Facts of the machine: ``cpu``, ``cores``, ``features``, ``memory_gib``, ``gpu``, ``system``."""
    from dataclasses import asdict

    from gankit.backends.choice.machine import machine

    return asdict(machine())


def versions() -> dict[str, str | None]:
    """Versions of the packages that the figures depend on."""
    from gankit.backends.choice.environment import installed

    return installed()
