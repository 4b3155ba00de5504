"""Small files of the export formats, for the tests that read them."""

import numpy as np
from PIL import Image

from gankit.checkpoints import save
from gankit.cli import main
from tests.networks import small_srgan

OPTIONS = {"scale": 2, "channels": 8, "blocks": 1}
EXACT = ("--backend", "eager", "--precision", "fp32")


def small_weights(folder):
    """A weights file of a small srgan."""
    path = folder / "mine.safetensors"
    save(path, small_srgan(**OPTIONS).state_dict(), "srgan", OPTIONS)
    return path


def small_image(folder, sides=(19, 22), name="a.png"):
    """An image file of random pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (*sides, 3), np.uint8)
    Image.fromarray(pixels).save(folder / name)
    return folder / name


def exported(weights, target, *options):
    """The file that ``gankit export`` writes."""
    assert main(["export", "--model", str(weights), "--output", str(target), *map(str, options)]) == 0
    return target


def result(command, model, output, *options):
    """The one image that a command writes, as int array."""
    arguments = [command, "--model", str(model), "--output", str(output), *map(str, options)]
    assert main(arguments) == 0
    (made,) = output.glob("*.png")
    with Image.open(made) as image:
        return np.asarray(image).astype(int)


def refusal(capsys, *arguments):
    """The one line that a command refuses with."""
    capsys.readouterr()
    assert main([str(item) for item in arguments]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err
