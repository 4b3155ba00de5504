"""Images and runs for the tests of strips."""

import numpy as np

import gankit
from gankit.images import decode
from tests.networks import small_srgan

HEIGHT, WIDTH = 203, 90
ROOM = 1 << 30  # bytes for strips


def samples(channels, dtype=np.uint8):
    """Smooth colours with edges. The lower half of colours is gray, and alpha has flat, hidden and busy parts."""
    rng = np.random.default_rng(channels)
    coarse = rng.integers(0, 236, (HEIGHT // 7 + 1, WIDTH // 7 + 1, channels))
    pixels = np.kron(coarse, np.ones((7, 7, 1), int))[:HEIGHT, :WIDTH] + rng.integers(0, 20, (HEIGHT, WIDTH, channels))
    if channels >= 3:
        pixels[HEIGHT // 2 :, :, 1:3] = pixels[HEIGHT // 2 :, :, :1]
    if channels in (2, 4):
        pixels[60:170, 20:80, -1] = 0
        pixels[:40, :, -1] = 255
    return (pixels * (257 if dtype == np.uint16 else 1)).astype(dtype)


def upscaler(module=None, **keywords):
    module = module or small_srgan(scale=2, channels=8, blocks=1)
    plain = {"backend": "eager", "precision": "fp32", "device": "cpu", "scale": 2, "value_range": (0, 1)}
    return gankit.Upscaler(module, **plain, **keywords)


def both(source, tmp_path, by_strips, room=ROOM, **keywords):
    """Run in one piece and by strips, check that the pixels are the same, and return the report by strips."""
    options = {"format": "png", **keywords.pop("run", {})}
    with upscaler(**keywords) as it:
        whole = it.run(source, tmp_path / "whole", **options).images[0]
        by_strips(room)
        made = it.run(source, tmp_path / "strips", **options).images[0]
    assert (whole.status, whole.strips, whole.error) == ("done", 0, None)
    assert (made.status, made.error) == ("done", None)
    assert made.strips > 1
    assert (made.input_size, made.output_size, made.notes) == (whole.input_size, whole.output_size, whole.notes)
    first, second = decode(whole.target), decode(made.target)
    assert first.gray == second.gray
    np.testing.assert_array_equal(first.channels(), second.channels())
    return made


def failed(source, tmp_path, it, **options):
    report = it.run(source, tmp_path / "out", **options).images[0]
    assert report.status == "failed"
    assert not report.target.exists()
    return report.error
