r"""What weights for photographs must hold: ``python -m bench.photo_gates edsr-photo --clean srresnet --hr kodak24/``.

Prints one line for each gate, with the figure and what it must reach, and ends with status 1 if one is missed:

* PSNR on Y at least 0.3 dB above bicubic for JPEG of quality 50 and 75, and for noise with JPEG;
* at most 0.3 dB below the clean weights on clean images;
* gradient energy of clean images at least 95 % of that of the clean weights' results;
* an image of one colour stays within one level, its corners and edges too; R = G = B stays within one level of gray.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from gankit.checkpoints import open_model
from gankit.datasets.conditions import CONDITION_NAMES
from gankit.evaluation import bicubic, evaluate_pairs, luma
from gankit.evaluation.benchmark import Upscale, each_pair

GAIN = 0.3
LOSS = 0.3
ENERGY = 0.95
LEVELS = (0, 1, 16, 64, 128, 192, 235, 254, 255)
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 160, 130), (90, 140, 220))


def plain(weights: str) -> tuple[Upscale, int]:
    """The network alone in fp32, without what the pipeline does around it; and its scale."""
    loaded = open_model(weights)
    generator, (low, high) = loaded.generator.eval(), loaded.facts.value_range

    def upscale(image: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255 * (high - low) + low
        with torch.inference_mode():
            result = (generator(batch)[0] - low) / (high - low)
        return (result.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()

    return upscale, loaded.facts.scale


def gradient_energy(upscale: Upscale, hr: Path, scale: int) -> float:
    """Mean square of the differences between neighbours on luma, over all results on clean images."""
    total = count = 0.0
    for _, _, small in each_pair(hr, None, scale):
        plane = luma(upscale(small))
        for axis in (0, 1):
            apart = np.diff(plane, axis=axis)
            total += float(np.square(apart).sum())
            count += apart.size
    return total / count


def flat(upscale: Upscale) -> int:
    """The largest difference of any pixel from the colour of an image of one colour, in levels."""
    worst = 0
    for colour in (*((level,) * 3 for level in LEVELS), *COLOURS):
        image = np.broadcast_to(np.uint8(colour), (40, 56, 3))
        worst = max(worst, int(np.abs(upscale(image).astype(int) - np.array(colour)).max()))
    return worst


def tint(upscale: Upscale, hr: Path, scale: int) -> int:
    """The largest difference between the colours of a pixel, over the results of gray images."""
    worst = 0
    for _, _, small in each_pair(hr, None, scale):
        gray = np.repeat(luma(small).round().astype(np.uint8)[..., None], 3, axis=2)
        result = upscale(gray).astype(int)
        worst = max(worst, int((result.max(axis=2) - result.min(axis=2)).max()))
    return worst


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.photo_gates", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("weights", help="a name or a file")
    parser.add_argument("--clean", default="srresnet", help="the weights for clean images (default %(default)s)")
    parser.add_argument("--hr", type=Path, required=True, help="folder of true images, such as kodak24")
    parser.add_argument("--json", type=Path, help="write the PSNR and SSIM of every condition, as gankit evaluate does")
    given = parser.parse_args(arguments)
    (upscale, scale), (clean, _) = plain(given.weights), plain(given.clean)
    print(f"{'condition':<12}{'bicubic':>10}{given.weights[-20:]:>22}", flush=True)
    found, tables = {}, {}
    for name in CONDITION_NAMES:
        table = evaluate_pairs(upscale, given.hr, None, scale, condition=name)
        beside = evaluate_pairs(bicubic(scale), given.hr, None, scale, condition=name)
        found[name] = table.mean.psnr_y - beside.mean.psnr_y
        tables[name] = {"bicubic": beside, given.weights: table}
        print(f"{name:<12}{beside.mean.psnr_y:>10.2f}{table.mean.psnr_y:>22.2f}", flush=True)
    clean_psnr = evaluate_pairs(clean, given.hr, None, scale).mean.psnr_y
    lost = clean_psnr - tables["clean"][given.weights].mean.psnr_y
    energy = gradient_energy(upscale, given.hr, scale) / gradient_energy(clean, given.hr, scale)
    print(f"clean images by {given.clean}: {clean_psnr:.2f} dB")
    gates = [(f"{name}: above bicubic", found[name], GAIN, "dB", True) for name in ("q50", "q75", "noise5_q75")]
    gates += [
        (f"clean: below {given.clean}", lost, LOSS, "dB", False),
        ("gradient energy of clean images", energy, ENERGY, "", True),
        ("one colour: largest difference", flat(upscale), 1, "levels", False),
        ("gray: largest difference of colours", tint(upscale, given.hr, scale), 1, "levels", False),
    ]
    missed = 0
    for name, value, bound, unit, least in gates:
        held = value >= bound if least else value <= bound
        missed += not held
        print(
            f"{'held' if held else 'MISSED':<8}{name:<38}{value:>8.2f} {unit:<7}{'>=' if least else '<='} {bound}",
            flush=True,
        )
    if given.json:
        figures = {name: {label: each.as_dict() for label, each in table.items()} for name, table in tables.items()}
        given.json.write_text(json.dumps({"hr": str(given.hr), "conditions": figures}, indent=1) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
