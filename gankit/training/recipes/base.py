"""What a recipe states: its options, their defaults, an example, and how it trains. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gankit.training.fabric import Device
    from gankit.training.plan import Plan, Progress


@dataclass(frozen=True)
class Whole:
    """A whole number from ``least`` to ``most``; ``None`` for no upper bound."""

    least: int = 1
    most: int | None = None


@dataclass(frozen=True)
class Real:
    """A number from ``least`` to ``most``; ``None`` for no upper bound. A bound that is open is itself excluded."""

    least: float = 0
    most: float | None = None
    open_least: bool = False
    open_most: bool = False


@dataclass(frozen=True)
class Choice:
    """One of several words or whole numbers."""

    values: tuple[str | int, ...]


@dataclass(frozen=True)
class Two:
    """Two numbers, one after the other."""

    kind: Real


@dataclass(frozen=True)
class Place:
    """A path.

    Attributes:
        exists: it must be there.
        file: a file is accepted, not only a folder.
    """

    exists: bool = True
    file: bool = False


@dataclass(frozen=True)
class Text:
    """Any text."""


@dataclass(frozen=True)
class Widths:
    """Whole numbers of at least 1 with commas between them, such as 256,128,64."""


@dataclass(frozen=True)
class Flag:
    """On where it is given."""


@dataclass(frozen=True)
class Switch:
    """On or off: ``--name`` and ``--no-name``."""


Kind = Whole | Real | Choice | Two | Place | Text | Widths | Flag | Switch

COUNT = Whole(1)
NUMBER = Whole(0)
RATE = Real(open_least=True)
WEIGHT = Real()
SHARE = Real(most=1, open_most=True)
PART = Real(most=1)
FOLDER = Place()


GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Run": (
            *("output", "steps", "batch", "resume", "stop_after", "checkpoint_every", "validate_every", "grid_every"),
            *("tensorboard", "seed", "quiet", "initial"),
        ),
        "Data": (
            *("images", "photos", "validation", "source", "target", "aligned", "direction", "source_kind"),
            *("target_kind", "mask_from", "holdout", "size", "patch", "colours", "fit", "load", "zoom", "mirror"),
            *("degradation", "flips", "candidates", "synthetic", "workers"),
        ),
        "Networks": (
            *("net", "scale", "latent", "widths", "hidden", "channels", "blocks", "downs", "norm", "norm_at_test"),
            *("dropout", "antialias", "antialias_up", "projection", "weight_init", "discriminator"),
            *("discriminator_widths", "discriminator_channels", "discriminator_layers", "discriminator_norm"),
            "discriminator_dropout",
        ),
        "Losses": (
            *("adversarial", "adversarial_weight", "adversarial_warmup", "content", "content_weight", "mse_share"),
            *("cycle_weight", "identity_weight", "perceptual_weight", "vgg_weights", "consistency_weight", "loss"),
            *("kl_weight", "kl_warmup", "smooth", "penalty_weight", "r1_weight", "clip", "instance_noise"),
            "image_pool",
        ),
        "Optimisation": (
            *("optimiser", "lr", "inner_lr", "discriminator_lr", "betas", "weight_decay", "schedule", "warmup"),
            *("final_rate", "discriminator_steps", "head_start", "progressive", "average"),
        ),
        "Device": ("device", "devices", "nodes", "precision", "compile"),
    }
)
"""The sections of a help page, in their order, and the options in each: a name means the same in all recipes."""


@dataclass(frozen=True)
class Option:
    """One option of a recipe's command.

    Attributes:
        name: its key in what :attr:`Recipe.train` gets.
        kind: the values that it takes.
        help: one sentence for the command's help page.
        default: what holds where it is not given, for the help page only; ``None`` to show nothing.
        default_text: the same in words, where no value says it.
        required: it must be given.
        switch: its name on the command line, without dashes in front; empty for ``name`` with dashes inside.
        group: the section of the help page; empty for that of :data:`GROUPS`.
        multiple: it may be given several times; what :attr:`Recipe.train` gets is a tuple.
    """

    name: str
    kind: Kind
    help: str
    default: Any = None
    default_text: str = ""
    required: bool = False
    switch: str = ""
    group: str = ""
    multiple: bool = False

    @property
    def flag(self) -> str:
        """Its name on the command line: ``--learning-rate``."""
        return f"--{self.switch or self.name.replace('_', '-')}"


def with_defaults(options: Iterable[Option], *sources: type, preset: Mapping[str, Any] | None = None) -> list[Option]:
    """The options with the defaults that dataclasses state, so that no help page can state another.

    Args:
        options: their names are those of the fields.
        sources: dataclasses, of which the first that has a field of the name counts.
        preset: values that take the place of those defaults.
    """
    found: dict[str, Any] = {}
    for source in reversed(sources):
        found |= {each.name: each.default for each in fields(source) if each.default is not MISSING}
    found |= preset or {}
    return [replace(option, default=found.get(option.name, option.default)) for option in options]


@dataclass(frozen=True)
class RunDefaults:
    """Defaults of the options that all recipes have; see :class:`gankit.training.plan.Plan` for what they mean."""

    steps: int
    batch: int
    validate_every: int = 1000
    checkpoint_every: int = 500
    grid_every: int = 0
    average: float = 0.999
    precision: str = "auto"


@dataclass(frozen=True)
class Job:
    """One run as it is asked for, apart from the recipe's own options.

    Attributes:
        plan: how long to train and what to keep.
        device: where and how precisely.
        batch: samples in a step, on each device.
        workers: loader processes; 0 loads in the main one.
        seed: of the weight init, the order of the data and the noise.
        notify: called after every step.
    """

    plan: Plan
    device: Device
    batch: int
    workers: int = 0
    seed: int = 0
    notify: Callable[[Progress], None] | None = None


@dataclass(frozen=True)
class Recipe:
    """A training set-up that can be run again from one command.

    A recipe is a module of :mod:`gankit.training.recipes` that defines ``RECIPE``, and a line in that package's
    registry. The module imports no torch at its top, since the command line reads it for its help pages: what needs
    torch is imported by ``train``.

    Attributes:
        name: of the command.
        summary: one line for the list of recipes.
        example: options that make it run in minutes on a laptop's CPU, without ``--output``.
        options: its own options.
        train: given the run and the options that were given, trains, and returns the best validation, or nothing.
        defaults: of the options that all recipes have.
        description: what else its help page says.
        preset: values of its options that differ from the defaults of their dataclass.
        unit: of the validation's score.
        elsewhere: switches of another recipe, by its name, that users may expect here.
    """

    name: str
    summary: str
    example: str
    options: tuple[Option, ...]
    train: Callable[[Job, Mapping[str, Any]], dict[str, float]]
    defaults: RunDefaults
    description: str = ""
    preset: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    unit: str = ""
    elsewhere: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def command(self) -> str:
        """The whole command that runs in minutes on a laptop's CPU."""
        return f"gankit train {self.name} {self.example} --output runs/{self.name}"
