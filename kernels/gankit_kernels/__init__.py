"""Triton kernels for the operations between a GAN generator's convolutions, each beside its PyTorch reference.

The package stands alone: ``from gankit_kernels import instance_norm``. The references run on a CPU, in an export and
where Triton is not installed. Triton is imported with the first CUDA tensor, which is why the kernels of an operation
are in the file of the same name in ``on_cuda``. :mod:`gankit_kernels.winograd` is for CPUs, and LLVM compiles it.
"""

from gankit_kernels.blend import blend_tiles
from gankit_kernels.epilogue import epilogue
from gankit_kernels.fuse import fuse
from gankit_kernels.instance_norm import group_norm, instance_norm
from gankit_kernels.pixel_shuffle import pixel_shuffle, to_crd, to_dcr
from gankit_kernels.pixels import from_uint8, to_uint8
from gankit_kernels.spread import spread

__all__ = [
    "blend_tiles",
    "epilogue",
    "from_uint8",
    "fuse",
    "group_norm",
    "instance_norm",
    "pixel_shuffle",
    "spread",
    "to_crd",
    "to_dcr",
    "to_uint8",
]
