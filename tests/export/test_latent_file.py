"""Generators of noise as ONNX files: any batch, the same images, and what is refused."""

import numpy as np
import onnx
import pytest
import torch
from gankit_export.latent import export_latent_onnx
from gankit_export.onnx import ExportError
from torch import nn


class Conditional(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(3, 2)
        self.layers = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Tanh())

    def forward(self, latents, classes):
        return self.layers(torch.cat([latents, self.embedding(classes)], 1)).unflatten(1, (3, 2, 2))


class Fixed(nn.Module):
    def forward(self, latents):
        return latents.reshape(3, 1, 2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2, 9])
def test_any_batch(tmp_path, batch):
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    module = Conditional().eval()
    path = tmp_path / "new" / "a.onnx"
    export_latent_onnx(module, path, latent=4, classes=3)
    assert [file.name for file in path.parent.iterdir()] == ["a.onnx"]
    assert [item.name for item in onnx.load(path).graph.input] == ["latents", "classes"]
    latents, classes = torch.randn(batch, 4), torch.arange(batch) % 3
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"latents": latents.numpy(), "classes": classes.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(result, module(latents, classes).numpy(), atol=1e-6)


def test_a_fixed_batch_is_refused(tmp_path):
    with pytest.raises(ExportError):
        export_latent_onnx(Fixed(), tmp_path / "a.onnx", latent=4)
    assert list(tmp_path.iterdir()) == []
