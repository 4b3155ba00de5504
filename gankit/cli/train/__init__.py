"""``gankit train``: a command for every recipe of :mod:`gankit.training.recipes`, made from what the recipe states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import click

from gankit.cli.group import Entry, LazyGroup
from gankit.training import recipes


class _Registered(Mapping[str, Entry]):
    """The registry as the group's entries, looked up when they are asked for."""

    def __getitem__(self, name: str) -> Entry:
        return Entry("", recipes.recipe(name).summary)

    def __iter__(self) -> Iterator[str]:
        return iter(recipes.RECIPES)

    def __len__(self) -> int:
        return len(recipes.RECIPES)


class _Recipes(LazyGroup):
    """A command for every recipe; the list also has an example of each."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from gankit.cli.train.command import command

        return command(recipes.recipe(cmd_name)) if cmd_name in self.entries else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_commands(ctx, formatter)
        with formatter.section("Examples that take minutes on a laptop's CPU"):
            for name in self.entries:
                formatter.write(f"  {recipes.recipe(name).command}\n")


@click.group(
    cls=_Recipes, package=__name__, entries=_Registered(), noun="recipe", subcommand_metavar="RECIPE [OPTIONS]"
)
def train() -> None:
    """Train a generator with a recipe. `gankit train RECIPE --help` shows the recipe's options.

    The output folder receives log.csv, last.pt (which --resume continues), sample grids if --grid-every is given, and
    final.safetensors, which the other commands load with --model FILE.
    """
