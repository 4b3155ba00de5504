"""pix2pix (Isola et al., CVPR 2017, arXiv:1611.07004): images from images, learnt from pairs.

What differs from the paper by default: the generator normalises by the image's own statistics for any
batch, which is what the paper's BatchNorm does with its batch of one; the discriminator has InstanceNorm for the same
reason. The dropout is off at test time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gankit.models.pix2pix import UNetGenerator
from gankit.training.schedules import Schedule
from gankit.training.system import Validator
from gankit.training.systems.adversary import CONTENT, Adversary, Showcase, TranslationSystem, adam, check_game
from gankit.training.systems.adversary import to_range as _to_range
from gankit.training.systems.translation_options import Pix2PixOptions
from gankit.training.weight_init import initialise


class Pix2Pix(TranslationSystem):
    """The ``pix2pix`` recipe.

    Args:
        options: see :class:`Pix2PixOptions`.
        fabric: a Lightning Fabric that places and casts.
        validator: generator in eval mode -> figures by name, with a ``"score"`` if the best weights are to be kept.
        show: draws sample grids and watches how much the results differ.
        keeps_best: whether the validator gives a score by which the best weights are kept.
        initial: state dict to begin from.
        header: what the weights files say about the input, beside the model; see
            :func:`gankit.training.translation_data.input_header_of`.

    Raises:
        UsageError: an option is unknown or does not go with the others.
    """

    def __init__(
        self,
        options: Pix2PixOptions,
        fabric: Any,
        validator: Validator,
        show: Showcase | None = None,
        *,
        keeps_best: bool = False,
        initial: Mapping[str, Tensor] | None = None,
        header: Mapping[str, str] | None = None,
    ) -> None:
        check_game(options)
        super().__init__(validator, show)
        self.options, self._fabric, self._header = options, fabric, dict(header or {})
        self.keeps_best = keeps_best
        self.generator: UNetGenerator = UNetGenerator(UNetGenerator.Options(**options.model))
        initialise(self.generator, options.weight_init)
        if initial is not None:
            self.generator.load_state_dict(initial)
        optimiser = adam(self.generator.train(), options, options.lr)
        self._forward, self._optimiser = fabric.setup(self.generator, optimiser)
        channels = options.model.get("in_channels", 3) + options.model.get("out_channels", 3)
        self._adversary = Adversary(channels, options, fabric) if options.adversarial_weight else None
        self.modules: dict[str, nn.Module] = {"generator": self.generator}
        self.optimisers: dict[str, Optimizer] = {"generator": optimiser}
        self.schedules: dict[str, Schedule] = {"generator": options.schedule_of()}
        if self._adversary:
            self.modules["discriminator"] = self._adversary.module
            self.optimisers["discriminator"] = self._adversary.optimiser
            self.schedules["discriminator"] = options.schedule_of()

    def step(self, batch: Any, index: int) -> Mapping[str, Tensor]:
        """One step of the discriminator, then one of the generator, on the same (source, target) uint8 squares."""
        options, fabric = self.options, self._fabric
        source, target = _to_range(fabric, batch)
        made = self._forward(source).float()
        content = CONTENT[options.content](made, target)
        loss = options.content_weight * content
        reported = {"content": content.detach()}
        if self._adversary:
            seen = torch.cat([source, made], 1)
            reported["discriminator"] = self._adversary.learn(torch.cat([source, target], 1), seen, index)
            adversarial = self._adversary.fooled(seen, index)
            reported["adversarial"] = adversarial.detach()
            loss = loss + options.adversarial_weight * adversarial
        self._optimiser.zero_grad()
        fabric.backward(loss)
        self._optimiser.step()
        return reported

    def save_generator(self, path: Path, state: Mapping[str, Tensor], extra: Mapping[str, str]) -> None:
        """A ``.safetensors`` file that ``gankit translate`` takes."""
        from gankit.checkpoints import save

        save(path, dict(state), "pix2pix", self.options.model, metadata={**extra, **self._header})
