"""What the discriminators of dcgan and cgan can have besides the paper's layers."""

import pytest
import torch
from torch import nn

from gankit.models import cgan, dcgan


def test_instance_norm_looks_at_one_image_only():
    torch.manual_seed(0)
    x = torch.rand(3, 1, 32, 32)
    for norm, alone in (("instance", True), ("batch", False)):
        net = dcgan.Discriminator((16, 8, 4), 1, norm=norm).train()
        assert torch.allclose(net(x)[:1], net(x[:1]), atol=1e-5) == alone


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_dropout(dropout):
    for net in (dcgan.Discriminator((8, 4), 1, dropout=dropout), cgan.Discriminator(3, widths=(8, 4), dropout=dropout)):
        layers = [layer for layer in net.modules() if isinstance(layer, nn.Dropout | nn.Dropout2d)]
        assert [layer.p for layer in layers] == ([dropout] * 2 if dropout else [])


@pytest.mark.parametrize("body", cgan.BODIES)
def test_projection_is_the_class_vector_times_the_features(body):
    torch.manual_seed(0)
    net = cgan.Discriminator(3, body, (6, 4), (8, 8), projection=True).eval()
    x, classes = torch.rand(3, 1, 8, 8), torch.tensor([2, 0, 1])
    found = net(x, classes)
    features = []
    net.layers[-1].register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
    projection, net.projection = net.projection, None
    plain = net(x, classes)
    wanted = plain + torch.einsum("nf,nf->n", projection.weight[classes], features[0])[:, None]
    torch.testing.assert_close(found, wanted)
    assert not torch.allclose(found, plain)


def test_projection_with_spectral_norm():
    net = cgan.Discriminator(3, "convolutional", (6, 4), (8, 8), spectral=True, projection=True).train()
    for _ in range(50):
        net(torch.rand(2, 1, 8, 8), torch.tensor([0, 1]))
    assert torch.linalg.matrix_norm(net.projection.weight, 2).item() == pytest.approx(1, abs=0.05)
