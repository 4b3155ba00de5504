"""Made images of earlier steps, for the discriminator not to forget them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class ImagePool:
    """Keeps made images and gives an old one in place of half of the new (Shrivastava et al. 2017, arXiv:1612.07828).

    As CycleGAN uses it: until it is full, every image is kept and given back; from then on each is, with even odds,
    given back itself, or takes the place of a random old one, which is given instead.

    Args:
        size: images that are kept; 0 gives back what it is given.
        seed: of its choice, which it draws from a generator of its own.
    """

    def __init__(self, size: int = 50, seed: int = 0) -> None:
        if size < 0:
            raise ValueError(f"a pool cannot hold {size} images")
        self.size = size
        self._images: list[Tensor] = []
        self._random = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self._images)

    def __call__(self, images: Tensor) -> Tensor:
        """(N, ...) new images -> (N, ...) new and old ones, detached."""
        images = images.detach()
        if self.size == 0:
            return images
        return torch.stack([self._exchange(image) for image in images])

    def _exchange(self, image: Tensor) -> Tensor:
        if len(self._images) < self.size:
            self._images.append(image.clone())
            return image
        if torch.rand((), generator=self._random) < 0.5:
            return image
        place = int(torch.randint(self.size, (), generator=self._random))
        old = self._images[place].to(image)
        self._images[place] = image.clone()
        return old

    def state_dict(self) -> dict[str, Any]:
        """The images and the state of the random numbers."""
        return {"images": list(self._images), "random": self._random.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave.

        Raises:
            ValueError: it holds more images than this pool does.
        """
        if len(state["images"]) > self.size:
            raise ValueError(f"a pool of {len(state['images'])} images is larger than {self.size}")
        self._images = [image.clone() for image in state["images"]]
        self._random.set_state(state["random"].cpu())
