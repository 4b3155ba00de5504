"""``gankit train``: train a generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gankit.cli import INTERRUPTED
from gankit.errors import GankitError

_GO_ON = "--resume goes on from the last checkpoint"
_COUNT = click.IntRange(1)
_RATE = click.FloatRange(0, min_open=True)
_WEIGHT = click.FloatRange(0)
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


class _InterruptedError(GankitError):
    """Ctrl-C; what was kept."""

    exit_code = INTERRUPTED


@click.command(
    epilog="""\b
Minutes on a laptop's CPU:
  gankit train srresnet --data photos/ --validation val/ --output runs/try --steps 300
  gankit train srgan --data photos/ --validation val/ --output runs/gan --steps 300 --init srresnet
"""
)
@click.argument("recipe", type=click.Choice(["srresnet", "srgan"]))
@click.option("--data", "photos", type=_FOLDER, required=True, help="Training pictures.")
@click.option("--validation", type=_FOLDER, required=True, help="Pictures that judge.")
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="Folder for checkpoints, log and weights."
)
@click.option("--steps", type=_COUNT, default=20_000, show_default=True, help="Steps in all.")
@click.option("--batch", type=_COUNT, default=16, show_default=True, help="Patches in a step.")
@click.option("--patch", type=_COUNT, default=24, show_default=True, help="LR side of a patch.")
@click.option("--scale", type=click.Choice(["2", "4", "8"]), help="Factor.  [default: 4, or that of --init]")
@click.option("--blocks", type=_COUNT, help="Residual blocks.  [default: 16, or those of --init]")
@click.option("--channels", type=_COUNT, help="Width of the body.  [default: 64, or that of --init]")
@click.option("--init", "initial", help="Weights to begin from: a model's name or a file.")
@click.option("--norm", type=click.Choice(["frozen", "batch"]), default="frozen", show_default=True, help="BatchNorm.")
@click.option("--lr", type=_RATE, help="Adam's learning rate (first and last layers, biases).")
@click.option("--inner-lr", type=_RATE, help="Muon's learning rate (the body).")
@click.option("--loss", type=click.Choice(["l1", "mse", "charbonnier"]), default="l1", show_default=True)
@click.option("--content", type=_WEIGHT, help="Weight of the content term.  [default: 1]")
@click.option("--adversarial", type=_WEIGHT, help="Weight of the adversarial term.")
@click.option("--perceptual", type=_WEIGHT, help="Weight of the perceptual term.")
@click.option("--consistency", type=_WEIGHT, help="Weight of the distance of the reduced result to the input.")
@click.option("--head-start", type=click.IntRange(0), help="Steps that the discriminator trains alone.")
@click.option("--discriminator-channels", type=_COUNT, help="Width of the discriminator.")
@click.option(
    "--discriminator-norm",
    type=click.Choice(["spectral", "batch"]),
    help="Its normalisation: spectral holds it back, batch is as published.  [default: spectral]",
)
@click.option("--discriminator-lr", type=_RATE, help="Its learning rate.  [default: 0.0001]")
@click.option("--vgg-weights", type=click.Path(path_type=Path), help="VGG19 state dict for the perceptual term.")
@click.option(
    "--synthetic", type=click.IntRange(0), default=24, show_default=True, help="Pictures of text and lines to add."
)
@click.option("--validate-every", type=_COUNT, default=1000, show_default=True)
@click.option("--checkpoint-every", type=_COUNT, default=500, show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--precision", type=click.Choice(["auto", "bf16", "fp32"]), default="auto", show_default=True)
@click.option("--workers", type=click.IntRange(0), default=0, show_default=True, help="Loader processes.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--resume", is_flag=True, help="Go on from the folder's checkpoint.")
@click.option("--stop-after", type=_WEIGHT, help="Leave after so many seconds, with a checkpoint.")
@click.option("--quiet", is_flag=True, help="Print the result only.")
def train(
    recipe: str,
    photos: Path,
    validation: Path,
    output: Path,
    steps: int,
    batch: int,
    patch: int,
    scale: str | None,
    blocks: int | None,
    channels: int | None,
    initial: str | None,
    norm: str,
    loss: str,
    vgg_weights: Path | None,
    synthetic: int,
    validate_every: int,
    checkpoint_every: int,
    device: str,
    precision: str,
    workers: int,
    seed: int,
    resume: bool,
    stop_after: float | None,
    quiet: bool,
    **weights: float | str | None,
) -> None:
    """Train RECIPE: srresnet (content loss), then srgan (adversarial) from its weights.

    The folder gets log.csv, last.pt (to go on with --resume) and final.safetensors, which ``gankit upscale --model
    FILE`` takes. srresnet also keeps best.safetensors, of the highest PSNR; srgan does not, since PSNR falls as
    pictures get sharper.
    """
    from gankit.cli.progress_train import progress
    from gankit.training.loop import Plan, Progress
    from gankit.training.superres import Data, train_super_resolution

    adversarial_only = {"content", "adversarial", "perceptual", "consistency", "head_start"}
    adversarial_only |= {f"discriminator_{what}" for what in ("channels", "norm", "lr")}
    given = {name: value for name, value in weights.items() if value is not None}
    if vgg_weights is not None:
        given["vgg_weights"] = vgg_weights  # type: ignore[assignment]
    if recipe == "srresnet" and (wrong := sorted((adversarial_only | {"vgg_weights"}) & set(given))):
        raise click.UsageError(f"--{wrong[0].replace('_', '-')} belongs to the srgan recipe")
    options: dict[str, Any] = {"norm": norm, "loss": loss, **given}
    if scale is not None:
        options["scale"] = int(scale)
    size = {"blocks": blocks, "channels": channels}
    options["model"] = {name: value for name, value in size.items() if value is not None}
    plan = Plan(steps, output, validate_every, checkpoint_every, resume=resume, stop_after=stop_after)
    data = Data(photos, validation, patch, batch, synthetic, workers, seed)
    reached = steps

    def track(state: Progress) -> None:
        nonlocal reached
        reached = state.step
        notify(state)

    try:
        with progress(steps, quiet=quiet) as notify:
            best = train_super_resolution(
                recipe,  # type: ignore[arg-type]
                data,
                plan,
                device=device,
                precision=precision,
                initial=initial,
                options=options,
                notify=track,
            )
    except KeyboardInterrupt:
        kept = (output / "last.pt").exists()
        raise _InterruptedError(f"interrupted; {_GO_ON if kept else 'no checkpoint was written yet'}") from None
    if reached < steps:
        click.echo(f"stopped at step {reached} of {steps}; {_GO_ON}")
    if best:
        click.echo(f"best {best['score']:.3f} dB at step {best['step']:.0f}: {output / 'best.safetensors'}")
    elif reached == steps:
        click.echo(f"weights of step {steps}: {output / 'final.safetensors'}")
