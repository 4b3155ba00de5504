"""The older exporter, for engines: the same results at every size, and the newer one where it fails."""

import onnxruntime
import pytest
import torch
from gankit_export.onnx import dims, export_onnx
from gankit_export.rewrites import for_inference
from torch import nn

from gankit import models
from tests.networks import small_srgan

NETWORKS = {
    "srgan": lambda: small_srgan(scale=2, channels=8, blocks=1),
    "edsr": lambda: models.build("edsr", {"channels": 8, "blocks": 1}),
    "cyclegan": lambda: models.build("cyclegan", {"channels": 4, "blocks": 1}),
}


def close(path, module, multiple=1):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (name,) = (item.name for item in session.get_inputs())
    for shape in ((1, 3, 24, 40), (3, 3, 32, 16), (2, 3, 48, 64)):
        x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            wanted = module(x)
        (result,) = session.run(None, {name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(result), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_all_sizes_are_right(name, tmp_path, monkeypatch):
    module, calls, export = NETWORKS[name]().eval(), [], torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", lambda *given, **more: calls.append(more) or export(*given, **more))
    export_onnx(for_inference(module), tmp_path / "net.onnx", multiple=models.facts(name).multiple, quick=True)
    assert [more["dynamo"] for more in calls] == [False]
    close(tmp_path / "net.onnx", module)


@pytest.mark.parametrize(
    "error", [TypeError("unexpected keyword argument 'dynamo'"), RuntimeError("no such operation")]
)
def test_the_newer_one_is_there_where_it_fails(error, tmp_path, monkeypatch):
    module, calls, export = nn.Conv2d(3, 4, 3, padding=1).eval(), [], torch.onnx.export

    def fails(*given, dynamo, **more):
        calls.append(dynamo)
        if not dynamo:
            raise error
        return export(*given, dynamo=dynamo, **more)

    monkeypatch.setattr(torch.onnx, "export", fails)
    export_onnx(module, tmp_path / "net.onnx", quick=True)
    assert calls == [False, True]
    assert all(isinstance(side, str) for side in dims(tmp_path / "net.onnx")["input"][2:])
    close(tmp_path / "net.onnx", module)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_ctrl_c_is_no_failure_of_the_older_one(tmp_path, monkeypatch):
    def stopped(*given, **more):
        raise RuntimeError("export failed") from KeyboardInterrupt()

    monkeypatch.setattr(torch.onnx, "export", stopped)
    with pytest.raises(KeyboardInterrupt):
        export_onnx(nn.Conv2d(3, 4, 3).eval(), tmp_path / "net.onnx", quick=True)
