"""Tiles: the plan covers, and tiled is the same as whole."""

import itertools

import pytest
import torch
from pipeline_fakes import NetEngine, Repeat, tiled

from gankit import models
from gankit.errors import BackendError, ParityError, UsageError
from gankit.pipeline.tiles import auto_tile, plan

# Of the net below: head 4, one block 2, neck 1, upsampler 1, and 9×9 at twice the size 2.
HALO = 10


@pytest.fixture(scope="module")
def net():
    """An SRResNet ×2 of one block, with statistics that are not the trivial ones."""
    torch.manual_seed(0)
    net = models.build("srgan", {"blocks": 1, "channels": 8, "scale": 2})
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.uniform_(-0.5, 0.5)
    return net.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("height", "width", "tile"),
    [(70, 90, 48), (61, 37, 33), (64, 128, 64), (1, 100, 40), (100, 1, 40), (20, 20, 64), (33, 33, 32), (88, 88, 31)],
)
@pytest.mark.parametrize("batch", [1, 5])
def test_tiled_is_untiled(net, height, width, tile, batch):
    image = torch.rand(1, 3, height, width)
    whole = net(image)
    stitched = tiled(NetEngine(net), image, scale=2, halo=HALO, tile=tile, batch=batch)
    assert stitched.shape == whole.shape
    torch.testing.assert_close(stitched, whole, rtol=0, atol=2e-6)


def test_a_smaller_halo_is_seen(net):
    """The test above can fail: half the halo gives other pixels."""
    image = torch.rand(1, 3, 70, 70)
    stitched = tiled(NetEngine(net), image, scale=2, halo=HALO // 2, tile=40)
    assert (stitched - net(image)).abs().max() > 1e-4


@pytest.mark.parametrize("multiple", [1, 2, 4])
@pytest.mark.parametrize("halo", [0, 3, 8])
def test_a_plan_covers_the_image_once(halo, multiple):
    for height, width, tile in itertools.product((4, 36, 100), (8, 52, 64), (24, 32, 64)):
        cut = plan(height, width, tile, halo, multiple)
        seen = torch.zeros(height, width, dtype=torch.int)
        tall, wide = cut.tile
        assert (tall, wide) == (min(tile, height), min(tile, width))
        for box in cut.boxes:
            for span, size, length in ((box.down, tall, height), (box.across, wide, width)):
                assert 0 <= span.start <= span.keep < span.stop <= span.start + size <= length
                assert span.start % multiple == 0
                assert span.start == 0 or span.keep - span.start >= halo
                assert span.start + size == length or span.start + size - span.stop >= halo
            seen[box.down.keep : box.down.stop, box.across.keep : box.across.stop] += 1
        assert (seen == 1).all()


def test_too_small_a_tile_names_the_least():
    with pytest.raises(UsageError, match=r"tile 80 is too small.*at least 81"):
        plan(200, 200, 80, 40)
    assert plan(200, 200, 81, 40)
    assert plan(80, 80, 80, 40)  # covers the image: no cut, no halo


@pytest.mark.parametrize(("height", "width"), [(512, 768), (3000, 4000), (100, 9000), (20000, 20000), (5, 5)])
def test_auto_tile_stays_within_its_bound(height, width):
    tall, wide = auto_tile(height, width, 40, 65536)
    assert tall * wide <= 65536
    assert plan(height, width, (tall, wide), 40).waste < 2.7


def test_auto_tile_takes_the_whole_image_where_it_fits():
    assert auto_tile(256, 256, 40, 65536) == (256, 256)
    assert auto_tile(10, 4000, 40, 65536) == (10, 4000)


def test_auto_tile_never_goes_below_the_halo():
    tile = auto_tile(1000, 1000, 40, 100)
    assert plan(1000, 1000, tile, 40).tile == tile == (160, 160)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_integers_stay_integers(dtype):
    image = torch.randint(0, 255, (2, 3, 50, 41)).to(dtype)
    result = tiled(Repeat(4), image, scale=4, halo=3, tile=16, batch=7)
    assert result.dtype == dtype
    expected = image.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    assert torch.equal(result.int(), expected.int())


def test_tiles_are_equal_and_batched():
    engine = Repeat(1)
    done = []
    tiled(engine, torch.zeros(1, 3, 64, 64), scale=1, halo=4, tile=24, batch=4, progress=done.append)
    assert {shape[1:] for shape in engine.shapes} == {(3, 24, 24)}
    assert [shape[0] for shape in engine.shapes] == [4, 4, 4, 4]
    assert done == [0.25, 0.5, 0.75, 1.0]


def test_an_engine_that_wants_images_gets_them_whole():
    engine = Repeat(2, wants="images")
    tiled(engine, torch.zeros(1, 3, 200, 100), scale=2, halo=4, tile=16)
    assert engine.shapes == [(1, 3, 200, 100)]


@pytest.mark.parametrize("dtype", [torch.uint16, torch.float32])
def test_other_sizes_than_the_multiple_are_continued_and_cropped(dtype):
    engine = Repeat(2)
    image = torch.randint(0, 255, (1, 3, 61, 30)).to(dtype)
    result = tiled(engine, image, scale=2, halo=2, multiple=8, tile=24)
    assert torch.equal(result.int(), image.repeat_interleave(2, 2).repeat_interleave(2, 3).int())
    assert all(height % 8 == 0 and width % 8 == 0 for *_, height, width in engine.shapes)


def test_values_that_are_not_finite_are_refused():
    engine = Repeat(1, change=lambda batch: batch / 0)
    with pytest.raises(ParityError, match="not finite in fp32"):
        tiled(engine, torch.rand(1, 3, 8, 8), scale=1, halo=0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda batch: batch[:, :1], r"repeat fp32 returned (1, 1, 16, 16) and not (1, 3, 16, 16)"),
        (lambda batch: batch[:, :, 1:], r"repeat fp32 returned (1, 3, 14, 16) and not (1, 3, 16, 16)"),
        (lambda batch: batch[0], r"repeat fp32 returned (3, 16, 16) and not (1, 3, 16, 16)"),
        (lambda batch: batch.half(), r"repeat fp32 returned float16 and not float32"),
    ],
)
def test_any_other_result_than_the_stated_one_is_an_error(change, words):
    class Wrong(Repeat):
        def run(self, batch):
            if change(batch).ndim == 3 or change(batch).dtype == torch.float16:
                return change(super().run(batch))
            return super().run(change(batch))

    with pytest.raises(BackendError) as caught:
        tiled(Wrong(2), torch.rand(1, 3, 8, 8), scale=2, halo=0)
    assert str(caught.value).startswith(f"{words} for an input of (1, 3, 8, 8); ")
    assert "\n" not in str(caught.value)


def test_a_network_that_makes_fewer_channels_may():
    one = Repeat(2, change=lambda batch: batch[:, :1])
    assert tiled(one, torch.rand(1, 3, 40, 40), scale=2, halo=2, tile=16, out_channels=1).shape == (1, 1, 80, 80)
