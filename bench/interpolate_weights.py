"""Weights between two of one network: ``python bench/interpolate_weights.py A B OUT --share 0.35``.

Network interpolation (Wang et al. 2018, arXiv:1809.00219, section 3.4): (1 - share)·A + share·B keeps most of the
sharpness of adversarial weights B and leaves out their artefacts. The result is stored as the model ``srgan``.
"""

from __future__ import annotations

from pathlib import Path

import click

from gankit.checkpoints import open_model, save


@click.command()
@click.argument("faithful", type=click.Path(path_type=Path, exists=True))
@click.argument("adversarial", type=click.Path(path_type=Path, exists=True))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--share", type=click.FloatRange(0, 1), default=0.35, show_default=True, help="Of ADVERSARIAL.")
@click.option("--steps", default=0, help="Adversarial steps, for the card.")
def main(faithful: Path, adversarial: Path, output: Path, share: float, steps: int) -> None:
    """Write weights between FAITHFUL and ADVERSARIAL."""
    one, other = open_model(faithful), open_model(adversarial)
    theirs = other.generator.state_dict()
    state = {
        name: value.lerp(theirs[name], share) if value.is_floating_point() else value
        for name, value in one.generator.state_dict().items()
    }
    save(output, state, "srgan", dict(one.facts.options), metadata={"step": str(steps)})


if __name__ == "__main__":
    main()
