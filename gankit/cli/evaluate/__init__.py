"""``gankit evaluate``: one command per task, each imported when it is called. Without a command it is ``upscale``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import click

from gankit.cli.group import Entry, LazyGroup

_DEFAULT = "upscale"
COMMANDS: Mapping[str, Entry] = MappingProxyType(
    {
        "upscale": Entry("upscale:upscale", "Measure upscaling on a benchmark: PSNR and SSIM (the default)."),
        "translate": Entry("translate:translate", "Measure translated images or masks against true ones."),
        "generate": Entry("generate:generate", "Measure samples against a set of real images: Fréchet distance, FID."),
        "classifier": Entry("classifier:classifier", "Measure the accuracy of the classifier behind those figures."),
        "train-classifier": Entry("train_classifier:train_classifier", "Train that classifier."),
    }
)


class _Group(LazyGroup):
    """Options without a command are those of the default one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in self.get_help_option_names(ctx)):
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=_Group,
    package=__name__,
    entries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
gankit evaluate --model srresnet --model srgan --data benchmarks/Set5/x4
gankit evaluate translate --model pix2pix --data images/ --target masks/ --masks --holdout 5
gankit evaluate generate --model cgan --model dcgan --reference fashion_mnist/""",
)
def evaluate() -> None:
    """Measure models: print a table, and write the figures as JSON and images for comparison.

    `gankit evaluate COMMAND --help` shows the options of each command.
    """
