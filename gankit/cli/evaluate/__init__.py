"""``gankit evaluate``: one command per task, each imported when it is called; without a name it is ``upscale``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

import click

_DEFAULT = "upscale"
COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "upscale": ("gankit.cli.evaluate.upscale:upscale", "PSNR and SSIM on a benchmark (the default)."),
        "translate": ("gankit.cli.evaluate.translate:translate", "Translated pictures or masks against true ones."),
        "generate": ("gankit.cli.evaluate.generate:generate", "Samples against a reference set (Fréchet, FID)."),
        "classifier": ("gankit.cli.evaluate.classifier:classifier", "Accuracy of the classifier behind such figures."),
        "train-classifier": ("gankit.cli.evaluate.classifier:train", "Train that classifier."),
    }
)


class _Group(click.Group):
    """Commands that are imported when they run; words that begin with none of them go to the default one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in {*COMMANDS, *self.get_help_option_names(ctx)}:
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in COMMANDS.items()])


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
gankit evaluate --model srresnet --model srgan --data benchmarks/Set5/x4
gankit evaluate translate --model pix2pix --data images/ --target masks/ --masks --holdout 5
gankit evaluate generate --model cgan --model dcgan --reference fashion_mnist/""",
)
def evaluate() -> None:
    """Measure models: a table, JSON for a card, and a picture to look at.

    `gankit evaluate COMMAND --help` has the options of each command.
    """
