"""The click command of a recipe, made from what the recipe states of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from gankit.cli.train.common import Common, common, run
from gankit.training.recipes import base
from gankit.training.recipes.base import Job, Option, Recipe

if TYPE_CHECKING:
    from gankit.training.plan import Plan, Progress


_OTHER = "Other options"


class _WidthsType(click.ParamType[tuple[int, ...]]):
    """Whole numbers with commas between them."""

    name = "widths"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            widths = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            widths = ()
        if not widths or min(widths) < 1:
            self.fail(f"'{value}' is not a list of whole numbers such as 256,128,64", param, ctx)
        return widths


class _ChoiceType(click.Choice[str]):
    """One of several values, each given by its text."""

    def __init__(self, values: tuple[str | int, ...]) -> None:
        super().__init__([str(value) for value in values])
        self._values = {str(value): value for value in values}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._values[super().convert(str(value), param, ctx)]


class _Grouped(click.Command):
    """A command whose help page has a section for each group of options."""

    groups: Mapping[str, str] = MappingProxyType({})  # by the name of the option

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The sections in the order of :data:`gankit.training.recipes.base.GROUPS`, then what is in none of them."""
        order = [name for names in base.GROUPS.values() for name in names]
        places = {name: place for place, name in enumerate(order)}
        records: dict[str, list[tuple[str, str]]] = {heading: [] for heading in base.GROUPS}
        for param in sorted(self.get_params(ctx), key=lambda param: places.get(param.name or "", len(places))):
            record = param.get_help_record(ctx)
            if record is not None:
                records.setdefault(self.groups.get(param.name or "", _OTHER), []).append(record)
        for heading, lines in records.items():
            if lines:
                with formatter.section(heading):
                    formatter.write_dl(lines)


def command(recipe: Recipe) -> click.Command:
    """The command of a recipe."""

    def train(common: Common, **given: Any) -> None:
        options = {name: value for name, value in given.items() if value is not None and value != ()}

        def start(plan: Plan, notify: Callable[[Progress], None]) -> dict[str, float]:
            job = Job(plan, common.place(), common.batch, common.workers, common.seed, notify)
            return recipe.train(job, options)

        run(common, start, unit=recipe.unit)

    train.__doc__ = "\n\n".join(part for part in (recipe.summary, recipe.description) if part)
    function: Any = train
    for flag, other in recipe.elsewhere.items():
        function = _refusal(flag, other)(function)
    for option in reversed(recipe.options):
        function = _option(option)(function)
    function = common(**asdict(recipe.defaults))(function)
    epilog = f"\b\nAn example that takes minutes on a laptop's CPU:\n  {recipe.command}"
    made = click.command(recipe.name, cls=_Grouped, epilog=epilog)(function)
    made.groups = _headings(recipe)
    return made


def _headings(recipe: Recipe) -> dict[str, str]:
    """The section of each option of a recipe's command."""
    headings = {name: heading for heading, names in base.GROUPS.items() for name in names}
    return headings | {option.name: option.group for option in recipe.options if option.group}


def _option(option: Option) -> Callable[[Any], Any]:
    """The click option; what is not given stays ``None``, so that the recipe decides."""
    flag, kind = option.flag, option.kind
    given: dict[str, Any] = {"default": None, "required": option.required, "help": _help(option)}
    if isinstance(kind, base.Switch):
        return click.option(f"{flag}/--no-{flag.removeprefix('--')}", option.name, **given)
    if isinstance(kind, base.Flag):
        return click.option(flag, option.name, is_flag=True, flag_value=True, **given)
    return click.option(flag, option.name, type=_type(kind), multiple=option.multiple, **given)


def _type(kind: base.Kind) -> Any:
    match kind:
        case base.Whole(least, most):
            return click.IntRange(least, most)
        case base.Real(least, most, open_least, open_most):
            return click.FloatRange(least, most, min_open=open_least, max_open=open_most)
        case base.Choice(values):
            return _ChoiceType(values)
        case base.Two(number):
            return (_type(number), _type(number))
        case base.Place(exists, file):
            return click.Path(path_type=Path, exists=exists, dir_okay=True, file_okay=file)
        case base.Widths():
            return _WidthsType()
        case _:
            return str


def _help(option: Option) -> str:
    if option.default_text:
        return f"{option.help}  [default: {option.default_text}]"
    default = option.default
    if option.required or isinstance(option.kind, base.Flag) or default is None or default == ():
        return option.help
    return f"{option.help}  [default: {_shown(option, default)}]"


def _shown(option: Option, default: Any) -> str:
    """A default as it would be typed."""
    if isinstance(option.kind, base.Switch):
        name = option.flag.removeprefix("--")
        return name if default else f"no-{name}"
    if isinstance(option.kind, base.Widths):
        return ",".join(map(str, default))
    if isinstance(default, tuple):
        return " ".join(f"{value:.4g}" for value in default)
    return f"{default:.4g}" if isinstance(default, float) else str(default)


def _refusal(flag: str, other: str) -> Callable[[Any], Any]:
    """An option that is not listed and says which recipe it belongs to."""

    def refuse(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
        if value is not None:
            raise click.UsageError(f"{flag} belongs to the {other} recipe", ctx)

    return click.option(flag, hidden=True, expose_value=False, callback=refuse)
