"""What ``gankit doctor`` knows beside the environment: drivers, GPUs, providers, compilers, the disk, and the problems.

Torch is imported only where the driver of a GPU is installed.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gankit.backends.choice.gpus import Gpu, Problem, found_gpus, gpu_problems
from gankit.backends.cuda.driver import driver_installed
from gankit.paths import cache_folder, cache_notice
from gankit.version import __version__, installed_version

_PROVIDERS = {"CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "tensorrt"}
_TENSORRT = ("tensorrt-cu13", "tensorrt-cu12", "tensorrt")
_TENSORRT_OF_PROVIDER = 10  # major version whose library ONNX Runtime's TensorRT provider asks for
_LEAST_FREE = 1 << 30  # bytes; an exported model takes up to 100 MB, a TensorRT engine more
_COMPILERS = ("c++", "g++", "clang++", "cl")
_LISTING = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Diagnosis:
    """The facts of this machine that decide which engines run.

    Attributes:
        gankit: version.
        torch: version of torch, and where a driver is installed the versions of CUDA and cuDNN for which it was built.
        driver: version of the NVIDIA driver; empty if its version is unknown, ``None`` if there is no driver.
        gpus: the GPUs that torch finds.
        providers: what keeps each of ONNX Runtime's providers from loading; empty for one that loads.
        tensorrt: version of TensorRT; ``None`` if it is not installed.
        compilers: paths of the C++ compiler and of nvcc, and the version of Triton; ``None`` for what is missing.
        cache: folder of the cache.
        cache_bytes: size of its files.
        free_bytes: free space of its disk.
        problems: what is wrong, with what to do.
    """

    gankit: str
    torch: Mapping[str, str | None]
    driver: str | None
    gpus: tuple[Gpu, ...]
    providers: Mapping[str, str]
    tensorrt: str | None
    compilers: Mapping[str, str | None]
    cache: str
    cache_bytes: int
    free_bytes: int
    problems: tuple[Problem, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the facts as JSON values."""
        return asdict(self)


def diagnosis() -> Diagnosis:
    """Find out the facts of this machine."""
    torch_facts, gpus = _torch()
    folder = cache_folder()
    compilers = {
        "c++": next(filter(None, map(shutil.which, [os.environ.get("CXX", ""), *_COMPILERS])), None),
        "nvcc": shutil.which("nvcc"),
        "triton": installed_version("triton"),
    }
    found = Diagnosis(
        gankit=__version__,
        torch=torch_facts,
        driver=_driver(),
        gpus=gpus,
        providers=_providers(),
        tensorrt=next(filter(None, map(installed_version, _TENSORRT)), None),
        compilers=compilers,
        cache=str(folder),
        cache_bytes=_size(folder),
        free_bytes=shutil.disk_usage(_existing(folder)).free,
        problems=(),
    )
    return Diagnosis(**{**vars(found), "problems": tuple(problems(found))})


def problems(found: Diagnosis) -> Iterator[Problem]:
    """Yield what is wrong with a machine.

    Args:
        found: its facts. Their own problems are not read.
    """
    if installed_version("onnxruntime") and installed_version("onnxruntime-gpu"):
        yield Problem(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other.",
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu",
        )
    if found.driver is not None and not found.gpus:
        if found.torch["cuda"] is None:
            yield Problem(
                "An NVIDIA driver is installed, but this torch is a build for CPUs.",
                f"pip install --force-reinstall torch=={str(found.torch['version']).partition('+')[0]}",
            )
        else:
            yield Problem(
                f"torch finds no GPU with driver {found.driver or 'of unknown version'} and its CUDA "
                f"{found.torch['cuda']}.",
                "install a newer driver, and check nvidia-smi and CUDA_VISIBLE_DEVICES",
            )
    if found.gpus and found.compilers["triton"] is None:
        yield Problem(
            "Triton is not installed, so that --backend compile and gankit's kernels do not run on the GPU.",
            "pip install triton",
        )
    yield from gpu_problems(found.gpus, found.torch["version"])
    if found.compilers["c++"] is None:
        yield Problem(
            "No C++ compiler is installed, so that --backend compile does not run on the CPU.",
            "install one, such as: apt-get install g++",
        )
    if found.gpus and installed_version("onnxruntime-gpu"):
        yield from (
            Problem(f"ONNX Runtime's {name} does not load: {why}.", _provider_fix(name, found))
            for name, why in found.providers.items()
            if why and (name == "CUDAExecutionProvider" or found.tensorrt)
        )
    if found.free_bytes < _LEAST_FREE:
        yield Problem(
            f"The disk of the cache has {found.free_bytes / 1e6:.0f} MB left.",
            "gankit cache remove --max-size 500MB, or set GANKIT_CACHE to a folder on another disk",
        )
    if (notice := cache_notice()) is not None:
        yield Problem(f"{notice[:1].upper()}{notice[1:].partition(' (')[0]}.", "set GANKIT_CACHE to a folder to keep")


def _provider_fix(name: str, found: Diagnosis) -> str:
    if name == "CUDAExecutionProvider":
        return "pip install onnxruntime-gpu for the CUDA of this torch: 1.27 and later for CUDA 13, 1.26 for CUDA 12"
    if found.tensorrt is not None and int(found.tensorrt.partition(".")[0]) != _TENSORRT_OF_PROVIDER:
        return f"pip install tensorrt-cu13==10.16.1.11, because it needs TensorRT {_TENSORRT_OF_PROVIDER}"
    return "use --backend tensorrt, which needs no provider"


def _torch() -> tuple[dict[str, str | None], tuple[Gpu, ...]]:
    """Return the versions of torch, CUDA and cuDNN, and the GPUs."""
    versions: dict[str, str | None] = {"version": installed_version("torch"), "cuda": None, "cudnn": None}
    if not driver_installed() or versions["version"] is None:
        return versions, ()
    import torch

    versions["cuda"] = torch.version.cuda
    if not torch.cuda.is_available():
        return versions, ()
    cudnn = torch.backends.cudnn.version()
    versions["cudnn"] = None if cudnn is None else str(cudnn)
    return versions, found_gpus(torch.cuda)


def _driver() -> str | None:
    """Return the version of the NVIDIA driver; empty if it does not tell, ``None`` if there is none."""
    if not driver_installed():
        return None
    with suppress(OSError):
        if words := re.search(r"\b(\d+\.\d+(?:\.\d+)*)\b", _LISTING.read_text()):
            return words[1]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.partition("\n")[0].strip()


def _providers() -> dict[str, str]:
    """Return for each of ONNX Runtime's providers why its library does not load; empty for one that does.

    ``onnxruntime.get_available_providers`` lists those that were built, whether they load or not.
    """
    spec = find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return {}
    folder = Path(spec.origin).parent / "capi"
    prefix, suffix = ("", ".dll") if sys.platform == "win32" else ("lib", ".so")
    found = {"CPUExecutionProvider": ""}
    for name, short in _PROVIDERS.items():
        library = folder / f"{prefix}onnxruntime_providers_{short}{suffix}"
        if not library.is_file():
            found[name] = "not part of this package"
        elif not driver_installed():
            found[name] = "no driver of a GPU is installed"
        else:
            found[name] = _unloadable([folder / f"{prefix}onnxruntime_providers_shared{suffix}", library])
    return found


def _unloadable(libraries: Sequence[Path]) -> str:
    """Return why the last library does not load after the others; empty if it does."""
    with suppress(ImportError):
        import torch  # noqa: F401  # brings the libraries of CUDA and cuDNN
    try:
        for library in libraries:
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        return str(error)
    return ""


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*") if folder.is_dir() else ():
        with suppress(OSError):  # another process has just removed it
            total += path.stat().st_size if path.is_file() else 0
    return total


def _existing(folder: Path) -> Path:
    """Return the folder itself, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())
