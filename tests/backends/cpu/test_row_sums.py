"""A convolution to few channels as a sum of rows."""

import pytest
import torch
from torch import nn

from gankit.backends.cpu.row_sums import RowSumStage, by_rows, row_convolution
from gankit.backends.cpu.stage import Stage


class End(Stage):
    """Keeps what it gets."""

    def __init__(self):
        super().__init__()
        self.got = []

    def push(self, port, rows, row, last):
        self.got.append((row, rows.clone(), last))


@pytest.mark.parametrize("kernel", [(3, 3), (5, 1), (9, 7)])
@pytest.mark.parametrize("pieces", [[1] * 12, [12], [5, 1, 6]])
@pytest.mark.parametrize("first", [0, 7])
def test_rows_add_up_to_the_convolution(kernel, pieces, first):
    conv = nn.Conv2d(6, 3, kernel, padding=(kernel[0] // 2, kernel[1] // 2), bias=kernel[0] != 5)
    image = torch.randn(1, 6, 12, 10).contiguous(memory_format=torch.channels_last)
    stage, end = RowSumStage(conv, row_convolution(conv)), End()
    stage.consumers.append((end, 0))
    with torch.inference_mode():
        wanted = conv(image)
        stage.push(0, image[:, :, :1], first, False)  # must leave nothing
        stage.reset()
        end.got.clear()
        row = 0
        for rows in image.split(pieces, dim=2):
            row += rows.shape[2]
            stage.push(0, rows, first + row - rows.shape[2], row == 12)
    found = torch.cat([rows for _, rows, _ in end.got], dim=2)
    unknown = 0 if first == 0 else kernel[0] // 2  # rows that see what lies above the first one
    torch.testing.assert_close(found, wanted[:, :, unknown:], rtol=0, atol=2e-6)
    begins = [row for row, _, _ in end.got]
    assert begins[0] == first + unknown
    assert begins == sorted(begins)
    assert [last for _, _, last in end.got] == [False] * (len(end.got) - 1) + [True]


def test_which_convolutions_are_summed_by_rows():
    assert by_rows(nn.Conv2d(64, 3, 9))
    assert by_rows(nn.Conv2d(256, 12, 5))
    assert not by_rows(nn.Conv2d(64, 48, 3))
    assert not by_rows(nn.Conv2d(64, 3, 1))
    assert not by_rows(nn.Conv2d(64, 3, 3).bfloat16())
