"""What spandrel 0.4 documents of the parts that gankit uses, around networks of our own."""

from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F


@dataclass
class SizeRequirements:
    minimum: int = 0
    multiple_of: int = 1
    square: bool = False

    def get_padding(self, width, height):
        width_to, height_to = (
            -(-max(self.minimum, side) // self.multiple_of) * self.multiple_of for side in (width, height)
        )
        if self.square:
            width_to = height_to = max(width_to, height_to)
        return width_to - width, height_to - height


class ImageModelDescriptor:
    def __init__(
        self,
        model,
        *,
        purpose="SR",
        scale=2,
        input_channels=3,
        output_channels=3,
        supports_half=True,
        supports_bfloat16=True,
        size_requirements=None,
        call_fn=None,
    ):
        self._model, self._purpose, self._call_fn = model, purpose, call_fn or (lambda model, image: model(image))
        self.architecture = SimpleNamespace(id="Odd Net+", name="OddNet")
        self.scale, self.input_channels, self.output_channels = scale, input_channels, output_channels
        self.supports_half, self.supports_bfloat16 = supports_half, supports_bfloat16
        self.size_requirements = size_requirements or SizeRequirements()

    @property
    def model(self):
        return self._model

    @property
    def purpose(self):
        return self._purpose

    @torch.inference_mode()
    def __call__(self, image):
        assert image.shape[0] == 1  # documented
        height, width = image.shape[2:]
        right, bottom = self.size_requirements.get_padding(width, height)
        if right or bottom:
            image = F.pad(image, (0, right, 0, bottom), "replicate")
        result = self._call_fn(self.model, image).clamp_(0, 1)
        return result[..., : height * self.scale, : width * self.scale]


class MaskedImageModelDescriptor:
    def __init__(self):
        self.purpose, self.architecture = "Inpainting", SimpleNamespace(id="LaMa", name="LaMa")


class UnsupportedModelError(Exception):
    pass


def module(describe, seen=None):
    """A module named spandrel, whose loader gives what ``describe`` makes of the state dict."""

    class ModelLoader:
        def __init__(self, device=None):
            pass

        def load_from_state_dict(self, state_dict):
            if seen is not None:
                seen.append(state_dict)
            return describe(state_dict)

    fake = ModuleType("spandrel")
    fake.ModelLoader, fake.ImageModelDescriptor = ModelLoader, ImageModelDescriptor
    fake.MaskedImageModelDescriptor, fake.UnsupportedModelError = MaskedImageModelDescriptor, UnsupportedModelError
    return fake


class Odd(nn.Module):
    """No layout of ours has these names."""

    def __init__(self, scale=2):
        super().__init__()
        self.zig, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8)
        self.zag, self.scale = nn.Conv2d(8, 3 * scale**2, 3, padding=1), scale

    def forward(self, x):
        grown = F.pixel_shuffle(self.zag(F.relu(self.norm(self.zig(x)))), self.scale)
        return 0.5 + 0.1 * grown


class Branching(Odd):
    """The forward pass asks for the size, so that it has no graph."""

    def forward(self, x):
        if x.shape[2] % 2:
            x = F.pad(x, (0, 0, 0, 1), "replicate")
            return super().forward(x)[:, :, : -self.scale]
        return super().forward(x)


class Pair(Odd):
    """Returns more than an image."""

    def forward(self, x):
        return super().forward(x), x.mean()
