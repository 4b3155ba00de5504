"""Whether the kernels compile for a GPU, without running anything on it."""

from __future__ import annotations

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from gankit_kernels.on_cuda.epilogues import pixels

_CONSTANTS = {
    "VEC": 8, "PIXELS": 64, "CHANNELS": 64, "ACT": "leaky_relu", "BIAS": True, "PRELU": True, "SHARED": False,
    "RESIDUAL": True, "BEFORE": False,
}  # fmt: skip
_TENSORS = ("x", "bias", "prelu", "residual", "y")
_SCALARS = ("slope", "scale")


def compile_for(major: int, minor: int) -> None:
    """Compile the epilogue for fp16 images of 64 channels, in about a second; later calls take it from Triton's cache.

    Args:
        major: first number of the GPU's compute capability.
        minor: second number.

    Raises:
        Exception: Whatever Triton or the assembler says.
    """
    signature: dict[str, str] = {}
    constants: dict[tuple[int, ...], object] = {}
    for index, name in enumerate(pixels.arg_names):
        if name in _CONSTANTS:
            signature[name], constants[(index,)] = "constexpr", _CONSTANTS[name]
        else:
            signature[name] = "*fp16" if name in _TENSORS else "fp32" if name in _SCALARS else "i32"
    source = ASTSource(fn=pixels, signature=signature, constexprs=constants, attrs={})
    triton.compile(source, target=GPUTarget("cuda", 10 * major + minor, 32), options={"num_warps": 4})
