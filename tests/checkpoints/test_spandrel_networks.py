"""The real spandrel: three architectures with random weights, through upscaling, tiling and export."""

import os
import sys
import warnings

import numpy as np
import pytest
import torch

from gankit import Upscaler
from gankit.checkpoints import open_model
from gankit.pipeline.exporting import export

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
FOLDER = os.environ.get("GANKIT_SPANDREL")  # where .ci/run has installed spandrel and torchvision


@pytest.fixture(scope="module")
def architectures():
    """Make spandrel importable, from the folder if it is not installed.

    torchvision's wheel from PyPI lacks two operators beside a CPU build of torch, and then breaks whatever imports it,
    torchmetrics too. They are therefore defined here, where no network calls them.
    """
    with pytest.MonkeyPatch.context() as patch:
        if FOLDER:
            patch.setattr(sys, "path", [*sys.path, FOLDER])
        library = None
        try:
            import torchvision  # noqa: F401
        except ModuleNotFoundError:
            pytest.skip("spandrel is not installed: install the extra 'spandrel', or set GANKIT_SPANDREL")
        except RuntimeError:  # operator torchvision::nms does not exist
            library = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        pytest.importorskip("spandrel", reason="the extra 'spandrel' is not installed", exc_type=ImportError)
        yield library


def span():
    from spandrel.architectures.SPAN import SPAN

    return SPAN(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2, norm=False)


def plksr():
    from spandrel.architectures.PLKSR import PLKSR

    return PLKSR(dim=8, n_blocks=1, upscaling_factor=2, kernel_size=5)


def safmn():
    from spandrel.architectures.SAFMN import SAFMN

    return SAFMN(dim=8, n_blocks=1, ffn_scale=2.0, upscaling_factor=2)


CASES = [(span, "spandrel-SPAN", True), (plksr, "spandrel-PLKSR", None), (safmn, "spandrel-SAFMN", False)]


@pytest.fixture(params=CASES, ids=lambda case: case[0].__name__)
def network(request, architectures, tmp_path):
    """An architecture: its module, the name that it must get, whether it can be tiled, and its weights file."""
    make, name, tiled = request.param
    torch.manual_seed(0)
    net = make().eval()
    torch.save({"params": net.state_dict()}, tmp_path / "net.pth")
    return net, name, tiled, tmp_path / "net.pth"


def wanted(net, pixels):
    """The network's own image of uint8 pixels, by torch alone."""
    values = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        return (net(values)[0].clamp(0, 1).permute(1, 2, 0) * 255).round().numpy().astype(int)


def test_upscaling_and_tiling(network):
    net, name, tiled, path = network
    loaded = open_model(path)
    assert (loaded.facts.name, loaded.facts.scale) == (name, 2)
    if tiled is not None:
        assert loaded.facts.tileable is tiled
    truth = wanted(net, IMAGE)
    assert truth.std() > 1
    with Upscaler(path, backend="eager", precision="fp32") as upscaler:
        assert np.abs(upscaler(IMAGE).astype(int) - truth).max() <= 1
    if loaded.facts.tileable:
        tile = 2 * loaded.facts.halo + 12
        pixels = np.tile(IMAGE, (2, 2, 1))
        with Upscaler(path, backend="eager", precision="fp32", tile=tile) as upscaler:
            assert np.abs(upscaler(pixels).astype(int) - wanted(net, pixels)).max() <= 1


@pytest.mark.slow
def test_export(network, tmp_path):
    import onnxruntime

    net, _, _, path = network
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = export(path, tmp_path / "net.onnx")
    assert min(item.worst for item in made.manifest.parity) > 80
    session = onnxruntime.InferenceSession(str(made.path), providers=["CPUExecutionProvider"])
    values = torch.from_numpy(IMAGE).permute(2, 0, 1)[None].float() / 255
    (result,) = session.run(None, {"input": values.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(result), net(values), atol=1e-4, rtol=0)
