"""``gankit train``: train a generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command(
    epilog="""\b
Minutes on a laptop's CPU:
  gankit train srresnet --data photos/ --validation val/ --output runs/try --steps 300
  gankit train srgan --data photos/ --validation val/ --output runs/gan --steps 100 --init srresnet
"""
)
@click.argument("recipe", type=click.Choice(["srresnet", "srgan"]))
@click.option("--data", "photos", type=click.Path(path_type=Path, exists=True), required=True, help="Training pictures.")
@click.option("--validation", type=click.Path(path_type=Path, exists=True), required=True, help="Pictures that judge.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder for checkpoints, log and weights.")
@click.option("--steps", default=20_000, show_default=True, help="Steps in all.")
@click.option("--batch", default=16, show_default=True, help="Patches in a step.")
@click.option("--patch", default=24, show_default=True, help="LR side of a patch.")
@click.option("--scale", type=click.Choice(["2", "4", "8"]), default="4", show_default=True)
@click.option("--init", "initial", help="Weights to begin from: a model's name or a file.")
@click.option("--norm", type=click.Choice(["frozen", "batch"]), default="frozen", show_default=True, help="BatchNorm.")
@click.option("--lr", type=float, help="Adam's learning rate (first and last layers, biases).")
@click.option("--inner-lr", type=float, help="Muon's learning rate (the body).")
@click.option("--loss", type=click.Choice(["l1", "mse", "charbonnier"]), default="l1", show_default=True)
@click.option("--adversarial", type=float, help="Weight of the adversarial term.")
@click.option("--perceptual", type=float, help="Weight of the perceptual term.")
@click.option("--discriminator-channels", type=int, help="Width of the discriminator.")
@click.option("--vgg-weights", type=click.Path(path_type=Path), help="VGG19 state dict for the perceptual term.")
@click.option("--synthetic", default=24, show_default=True, help="Pictures of text, lines and patterns to add.")
@click.option("--validate-every", default=1000, show_default=True)
@click.option("--checkpoint-every", default=500, show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--precision", type=click.Choice(["auto", "bf16", "fp32"]), default="auto", show_default=True)
@click.option("--workers", default=0, show_default=True, help="Loader processes.")
@click.option("--seed", default=0, show_default=True)
@click.option("--resume", is_flag=True, help="Go on from the folder's checkpoint.")
@click.option("--stop-after", type=float, help="Leave after so many seconds, with a checkpoint.")
@click.option("--quiet", is_flag=True, help="Print the result only.")
def train(
    recipe: str,
    photos: Path,
    validation: Path,
    output: Path,
    steps: int,
    batch: int,
    patch: int,
    scale: str,
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
    **weights: float | None,
) -> None:
    """Train RECIPE: srresnet (content loss), then srgan (adversarial) from its weights.

    The folder gets log.csv, last.pt (to go on with --resume), best.safetensors and final.safetensors, which
    ``gankit upscale --model FILE`` takes.
    """
    from gankit.cli.progress_train import progress
    from gankit.training.loop import Plan
    from gankit.training.superres import Data, train_super_resolution

    adversarial_only = {"adversarial", "perceptual", "discriminator_channels"}
    given = {name: value for name, value in weights.items() if value is not None}
    if vgg_weights is not None:
        given["vgg_weights"] = vgg_weights  # type: ignore[assignment]
    if recipe == "srresnet" and (wrong := sorted((adversarial_only | {"vgg_weights"}) & set(given))):
        raise click.UsageError(f"--{wrong[0].replace('_', '-')} belongs to the srgan recipe")
    options: dict[str, Any] = {"scale": int(scale), "norm": norm, "loss": loss, **given}
    plan = Plan(steps, output, validate_every, checkpoint_every, resume=resume, stop_after=stop_after)
    data = Data(photos, validation, patch, batch, synthetic, workers, seed)
    with progress(steps, quiet=quiet) as notify:
        best = train_super_resolution(
            recipe,  # type: ignore[arg-type]
            data,
            plan,
            device=device,
            precision=precision,
            initial=Path(initial) if initial else None,
            options=options,
            notify=notify,
        )
    if best:
        click.echo(f"best {best['score']:.3f} dB at step {best['step']:.0f}: {output / 'best.safetensors'}")
