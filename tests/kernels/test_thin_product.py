"""Products of few rows with matrices in the order in which they are read, against torch in float64."""

import pytest
import torch

pytest.importorskip("llvmlite")

from gankit_kernels.on_cpu import llvm
from gankit_kernels.thin_product import ThinProduct

LANES = llvm.lanes()


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("height", [1, 4, 12, 31])
@pytest.mark.parametrize(("count", "depth", "results"), [(1, 1, 1), (4, 2, 3), (16, 8, 8)])
def test_sums_of_products(count, depth, results, height, threads):
    matrices = torch.randn(count, depth * LANES, results * LANES)
    rows = torch.randn(count, height, depth * LANES)
    wanted = torch.einsum("pmd,pdr->mr", rows.double(), matrices.double())
    got = ThinProduct(matrices)(rows, threads)
    assert got.shape == wanted.shape
    assert (got - wanted).abs().max() <= 2e-6 * wanted.abs().max()


def test_rows_that_are_not_contiguous():
    matrices, rows = torch.randn(3, LANES, LANES), torch.randn(LANES, 6, 3).permute(2, 1, 0)
    wanted = torch.einsum("pmd,pdr->mr", rows, matrices)
    torch.testing.assert_close(ThinProduct(matrices)(rows), wanted, rtol=0, atol=1e-5)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="matrices must be"):
        ThinProduct(torch.zeros(1, LANES + 1, LANES))
    with pytest.raises(ValueError, match="matrices must be"):
        ThinProduct(torch.zeros(LANES, LANES))
    with pytest.raises(TypeError, match="matrices must be float32"):
        ThinProduct(torch.zeros(1, LANES, LANES).double())
    product = ThinProduct(torch.zeros(2, LANES, LANES))
    with pytest.raises(ValueError, match="rows must be"):
        product(torch.zeros(1, 4, LANES))
    with pytest.raises(TypeError, match="rows must be float32"):
        product(torch.zeros(2, 4, LANES).half())
