"""Max pooling, and bounds around a shuffle, in strips."""

import pytest
import torch
from gankit_export.rewrites import for_inference, trace
from torch import nn
from torch.nn import functional as F

from gankit.backends.cpu.pooling import MaxPoolStage, largest
from gankit.backends.cpu.stage import JoinStage, NotStreamableError, Sink
from gankit.backends.cpu.stages import build_stages
from gankit.backends.cpu.streaming import Stream
from gankit.models import build


def pushed(stage, image, first, cuts, end=True):
    """What a stage makes of rows from ``first`` on, in pieces; and the number of its first row."""
    found, sink = [], Sink()
    sink.write = lambda rows, row: found.append((row, rows.clone()))
    stage.consumers = [(sink, 0)]
    pieces = image[:, :, first:].tensor_split(cuts, 2)
    row = first
    for index, rows in enumerate(pieces):
        stage.push(0, rows, row, end and index == len(pieces) - 1)
        row += rows.shape[2]
    numbers = [number for number, _ in found]
    assert numbers == [numbers[0] + sum(rows.shape[2] for _, rows in found[:index]) for index in range(len(found))]
    return torch.cat([rows for _, rows in found], 2), numbers[0]


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("cuts", [[], [1], [1, 2, 3], [4, 9]])
@pytest.mark.parametrize("first", [0, 3])
def test_rows_are_those_of_the_whole_image(size, cuts, first):
    torch.manual_seed(0)
    image = torch.randn(1, 2, 16, 6)
    whole, stage = F.max_pool2d(image, size, 1, size // 2), MaxPoolStage(nn.MaxPool2d(size, 1, size // 2))
    for _ in range(2):  # again after another image
        result, number = pushed(stage, image, first, cuts)
        assert number == (first + size // 2 if first else 0)
        assert torch.equal(result, whole[:, :, number:])
        stage.reset()
    result, number = pushed(stage, image, 0, cuts, end=False)  # the image goes on below
    assert torch.equal(result, whole[:, :, : 16 - size // 2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_largest_of_a_square(dtype):
    image = torch.randn(2, 3, 4, 9).to(dtype)
    for size in (1, 3, 7):
        assert torch.equal(largest(image, size), F.max_pool2d(image, size, 1, size // 2))


@pytest.mark.parametrize(
    "pool", [nn.MaxPool2d(2, 1), nn.MaxPool2d(3), nn.MaxPool2d(3, 1), nn.MaxPool2d(3, 1, 1, 2), nn.MaxPool2d((3, 1), 1)]
)
def test_other_pooling_does_not_run_in_strips(pool):
    with pytest.raises(NotStreamableError):
        MaxPoolStage(pool)


@pytest.mark.parametrize("strip_bytes", [1, 20_000, 1 << 30])
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (33, 16), (131, 12)])
@pytest.mark.parametrize("name", ["edsr", "srgan"])
def test_strips_with_bounds_equal_the_whole(name, size, strip_bytes):
    torch.manual_seed(0)
    net = build(name, {"channels": 8, "blocks": 2, "overshoot": 0.1}).eval().requires_grad_(False)
    image = torch.rand(1, 3, *size)
    canvas = torch.full((1, 3, 4 * size[0], 4 * size[1]), torch.nan)

    def write(rows, row):
        canvas[:, :, row : row + rows.shape[2]] = rows

    bare = build(name, {"channels": 8, "blocks": 2}).eval()
    bare.load_state_dict(net.state_dict())
    with torch.inference_mode():
        assert size == (1, 1) or not torch.equal(net(image), bare(image))  # the bounds are reached
        Stream(for_inference(net), strip_bytes).run(image, lambda rows: rows, write)
        torch.testing.assert_close(canvas, net(image), rtol=0, atol=2e-6)


class Joined(nn.Module):
    """A shuffle, and enlarged images that are joined to it in turn."""

    def __init__(self, spoil=""):
        super().__init__()
        self.conv, self.shuffle, self.spoil = nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2), spoil
        self.ups = nn.ModuleList(nn.Upsample(scale_factor=2.0) for _ in range(3))
        if spoil == "bilinear":
            self.ups[1] = nn.Upsample(scale_factor=2.0, mode="bilinear")

    def forward(self, x):
        shuffled = self.shuffle(self.conv(x))
        added = self.ups[0](x) + shuffled
        bounded = torch.minimum(torch.maximum(added, self.ups[1](x * 0.5)), self.ups[2](x * 2))
        return bounded + {"shuffled": shuffled, "added": added}.get(self.spoil, 0)


@pytest.mark.parametrize("spoil", ["", "bilinear", "shuffled", "added"])
def test_what_is_joined_to_a_shuffle(spoil):
    """Joined at the small size where nothing else reads what lies between; the same result everywhere."""
    torch.manual_seed(0)
    net, image = Joined(spoil).eval().requires_grad_(False), torch.rand(1, 3, 20, 6)
    module = for_inference(net)
    joins = [stage for stage in build_stages(trace(net), 1 << 20)[2] if type(stage) is JoinStage]
    if not spoil:
        assert [len(stage._queues) for stage in joins] == [4]
    canvas = torch.full((1, 3, 40, 12), torch.nan)

    def write(rows, row):
        canvas[:, :, row : row + rows.shape[2]] = rows

    with torch.inference_mode():
        Stream(module, 1).run(image, lambda rows: rows, write)
        torch.testing.assert_close(canvas, net(image), rtol=0, atol=1e-6)
