"""gankit: run trained GAN generators over real images, fast and proven.

    import gankit

    generator = gankit.load("srgan")                       # a torch nn.Module
    upscaler = gankit.Upscaler("srgan", backend="auto")
    big = upscaler(image)                                # PIL, NumPy HWC uint8/uint16 or torch NCHW float
    upscaler.run(["photos/"], "upscaled/")

Importing gankit imports no torch; the first use of one of these names does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gankit.checkpoints import load
    from gankit.pipeline.sampler import Sampler
    from gankit.pipeline.translator import Translator
    from gankit.pipeline.upscaler import Upscaler

__all__ = ["Sampler", "Translator", "Upscaler", "__version__", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "load":
        from gankit.checkpoints import load

        return load
    if name == "Sampler":
        from gankit.pipeline.sampler import Sampler

        return Sampler
    if name == "Translator":
        from gankit.pipeline.translator import Translator

        return Translator
    if name == "Upscaler":
        from gankit.pipeline.upscaler import Upscaler

        return Upscaler
    raise AttributeError(f"module 'gankit' has no attribute '{name}'")
