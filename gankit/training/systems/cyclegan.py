"""CycleGAN (Zhu et al., ICCV 2017, arXiv:1703.10593): two kinds of images turned into each other, without pairs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gankit.errors import UsageError
from gankit.models.cyclegan import ResNetGenerator
from gankit.training.pool import ImagePool
from gankit.training.schedules import Schedule
from gankit.training.system import Validator
from gankit.training.systems.adversary import CONTENT, Adversary, Showcase, TranslationSystem, adam, check_game
from gankit.training.systems.adversary import to_range as _to_range
from gankit.training.systems.translation_options import CycleGANOptions
from gankit.training.weight_init import initialise

_FILES = {"a_to_b.": "G_A", "b_to_a.": "G_B"}  # as in the paper, G_A takes images of A


class Translated(NamedTuple):
    """What one pass of both generators makes; all (N, C, H, W) in [-1, 1]."""

    made_b: Tensor
    made_a: Tensor
    back_a: Tensor
    back_b: Tensor
    same_a: Tensor | None
    same_b: Tensor | None


class Pair(nn.Module):
    """Both generators.

    Args:
        model: arguments of the generator from A to B; the other has the channels the other way round.
    """

    def __init__(self, model: Mapping[str, Any]) -> None:
        super().__init__()
        self.a_to_b = ResNetGenerator(ResNetGenerator.Options(**model))
        self.b_to_a = ResNetGenerator(ResNetGenerator.Options(**turned(model)))
        self._joined = model.get("norm", "instance") == "instance" or model.get("norm_at_test") == "instance"

    def forward(self, a: Tensor, b: Tensor, *, identity: bool = True) -> Translated:
        """A -> B -> A and B -> A -> B, and, if asked for, what becomes of images that are on the right side already.

        One pass for all, so that several ranks meet once a step.
        """
        made_b, same_b = self._two(self.a_to_b, a, b if identity else None)
        made_a, same_a = self._two(self.b_to_a, b, a if identity else None)
        return Translated(made_b, made_a, self.b_to_a(made_b), self.a_to_b(made_a), same_a, same_b)

    def _two(self, net: nn.Module, first: Tensor, second: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if second is None:
            return net(first), None
        if self._joined:  # one pass is faster, and the same where every image is normalised by itself
            made, same = net(torch.cat([first, second])).chunk(2)
            return made, same
        return net(first), net(second)


class CycleGAN(TranslationSystem):
    """The ``cyclegan`` recipe.

    Args:
        options: see :class:`CycleGANOptions`.
        fabric: a Lightning Fabric that places and casts.
        validator: the pair in eval mode -> figures by name.
        show: draws sample grids and watches how much the results differ.
        initial: state dict of a :class:`Pair` to begin from.
        headers: what the weights files say about the input, beside the model: the file from A to B, and that from B to
            A; see :func:`gankit.training.translation_data.input_header_of`.

    Raises:
        UsageError: an option is unknown or does not go with the others.
    """

    keeps_best = False
    generator: Pair

    def __init__(
        self,
        options: CycleGANOptions,
        fabric: Any,
        validator: Validator,
        show: Showcase | None = None,
        *,
        initial: Mapping[str, Tensor] | None = None,
        headers: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {}),
    ) -> None:
        check_game(options)
        taken, made = options.model.get("in_channels", 3), options.model.get("out_channels", 3)
        if options.identity_weight and taken != made:
            raise UsageError(
                f"--identity-weight needs as many channels in A as in B, not {taken} and {made}: set it to 0"
            )
        super().__init__(validator, show)
        self.options, self._fabric, self._headers = options, fabric, headers
        self.generator = Pair(options.model)
        initialise(self.generator, options.weight_init)
        if initial is not None:
            self.generator.load_state_dict(initial)
        optimiser = adam(self.generator.train(), options, options.lr)
        self._forward, self._optimiser = fabric.setup(self.generator, optimiser)
        self._adversaries = {"a": Adversary(taken, options, fabric), "b": Adversary(made, options, fabric)}
        size, seed = options.image_pool, options.seed
        self._pools = {"a": ImagePool(size, seed), "b": ImagePool(size, seed + 1)}
        self.modules: dict[str, nn.Module] = {"generator": self.generator}
        self.optimisers: dict[str, Optimizer] = {"generator": optimiser}
        for side, adversary in self._adversaries.items():
            self.modules[f"discriminator_{side}"] = adversary.module
            self.optimisers[f"discriminator_{side}"] = adversary.optimiser
        self.schedules: dict[str, Schedule] = {name: options.schedule_of() for name in self.optimisers}
        self.extras = {f"pool_{side}": pool for side, pool in self._pools.items()}

    def step(self, batch: Any, index: int) -> Mapping[str, Tensor]:
        """One step of both generators, then one of both discriminators, on uint8 squares of A and of B."""
        options, distance = self.options, CONTENT[self.options.content]
        a, b = _to_range(self._fabric, batch)
        made = Translated(*self._forward(a, b, identity=options.identity_weight > 0))
        adversarial = self._adversaries["b"].fooled(made.made_b, index) + self._adversaries["a"].fooled(
            made.made_a, index
        )
        cycle = distance(made.back_a, a) + distance(made.back_b, b)
        loss = options.adversarial_weight * adversarial + options.cycle_weight * cycle
        reported = {"adversarial": adversarial.detach(), "cycle": cycle.detach()}
        if made.same_a is not None and made.same_b is not None:
            identity = distance(made.same_a, a) + distance(made.same_b, b)
            loss = loss + options.identity_weight * options.cycle_weight * identity
            reported["identity"] = identity.detach()
        self._optimiser.zero_grad()
        self._fabric.backward(loss)
        self._optimiser.step()
        for side, real, ours in (("a", a, made.made_a), ("b", b, made.made_b)):
            seen = self._pools[side](ours.detach())
            reported[f"discriminator_{side}"] = self._adversaries[side].learn(real, seen, index)
        return reported

    def save_generator(self, path: Path, state: Mapping[str, Tensor], extra: Mapping[str, str]) -> None:
        """Two ``.safetensors`` files, ``…_G_A`` and ``…_G_B``: ``gankit translate --direction`` takes either."""
        from gankit.checkpoints import save

        models = (self.options.model, turned(self.options.model))
        for (start, name), model, header in zip(_FILES.items(), models, self._headers, strict=True):
            part = {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}
            target = path.with_name(f"{path.stem}_{name}{path.suffix}")
            save(target, part, "cyclegan", model, metadata={**extra, **header})


def files_of(path: Path) -> tuple[Path, Path]:
    """The files that :meth:`CycleGAN.save_generator` writes for a path: A to B, B to A."""
    first, second = (path.with_name(f"{path.stem}_{name}{path.suffix}") for name in _FILES.values())
    return first, second


def turned(model: Mapping[str, Any]) -> dict[str, Any]:
    """The same generator with the channels of input and output exchanged."""
    return {
        **model,
        "in_channels": model.get("out_channels", 3),
        "out_channels": model.get("in_channels", 3),
    }


def joined_state(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a :class:`Pair` from those of its two generators."""
    parts = zip(_FILES, (first, second), strict=True)
    return dict(
        itertools.chain.from_iterable(((start + name, value) for name, value in part.items()) for start, part in parts)
    )
