"""Made pictures of earlier steps, for the discriminator not to forget them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class ImagePool:
    """Keeps made pictures and gives an old one in place of half of the new (Shrivastava et al. 2017, arXiv:1612.07828).

    As CycleGAN uses it: until it is full, every picture is kept and given back; from then on each is, with even odds,
    given back itself, or takes the place of a random old one, which is given instead.

    Args:
        size: pictures that are kept; 0 gives back what it is given.
        seed: of its choice, which it draws from a generator of its own.
    """

    def __init__(self, size: int = 50, seed: int = 0) -> None:
        if size < 0:
            raise ValueError(f"a pool of {size} pictures cannot be")
        self.size = size
        self._pictures: list[Tensor] = []
        self._random = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self._pictures)

    def __call__(self, pictures: Tensor) -> Tensor:
        """(N, ...) new pictures -> (N, ...) new and old ones, detached."""
        pictures = pictures.detach()
        if self.size == 0:
            return pictures
        return torch.stack([self._exchange(picture) for picture in pictures])

    def _exchange(self, picture: Tensor) -> Tensor:
        if len(self._pictures) < self.size:
            self._pictures.append(picture.clone())
            return picture
        if torch.rand((), generator=self._random) < 0.5:
            return picture
        place = int(torch.randint(self.size, (), generator=self._random))
        old = self._pictures[place].to(picture)
        self._pictures[place] = picture.clone()
        return old

    def state_dict(self) -> dict[str, Any]:
        """The pictures and the state of the random numbers."""
        return {"pictures": list(self._pictures), "random": self._random.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave.

        Raises:
            ValueError: it holds more pictures than this pool does.
        """
        if len(state["pictures"]) > self.size:
            raise ValueError(f"a pool of {len(state['pictures'])} pictures is larger than {self.size}")
        self._pictures = [picture.clone() for picture in state["pictures"]]
        self._random.set_state(state["random"].cpu())
