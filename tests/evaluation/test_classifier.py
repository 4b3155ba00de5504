import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import nn

from gankit.cli.evaluate import evaluate
from gankit.errors import CheckpointError, GankitError, UsageError
from gankit.evaluation.classifier import Classifier, accuracy, open_classifier, save_classifier, shipped
from gankit.training.classifier import ClassifierPlan, train_classifier
from tests.evaluation.evaluation_making import write_idx


def shapes(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy bars that stand, bars that lie, and discs, anywhere; with their classes."""
    rng = np.random.default_rng(seed)
    images, classes = np.empty((count, 28, 28), np.uint8), np.arange(count) % 3
    rows, columns = np.mgrid[:28, :28]
    for index, kind in enumerate(classes):
        y, x = rng.integers(9, 19, 2)
        drawn = [abs(columns - x) < 3, abs(rows - y) < 3, (columns - x) ** 2 + (rows - y) ** 2 < 60][kind]
        images[index] = np.clip(200 * drawn + rng.normal(0, 25, (28, 28)), 0, 255)
    return torch.from_numpy(images)[:, None], torch.from_numpy(classes)


@pytest.mark.slow
def test_it_learns():
    losses = []
    plan = ClassifierPlan(epochs=3, batch=20, lr=5e-3)
    net = train_classifier(*shapes(300), plan, lambda state: losses.append(state.loss))
    assert len(losses) == 45
    assert np.mean(losses[-10:]) < 0.4 * np.mean(losses[:5])
    assert accuracy(net, *shapes(120, seed=1)) > 0.9
    assert not net.training


def test_seeds_decide():
    images = shapes(40)
    states = [train_classifier(*images, ClassifierPlan(1, 20, seed=seed)).head.weight for seed in (0, 0, 1)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_losses_that_are_not_finite_end_it():
    with pytest.raises(GankitError, match="lower --lr"):
        train_classifier(*shapes(60), ClassifierPlan(40, 20, lr=1e30))


def test_images_of_another_size_are_refused():
    with pytest.raises(UsageError, match="1×28×28"):
        train_classifier(torch.zeros(9, 1, 32, 32, dtype=torch.uint8), torch.zeros(9).long(), ClassifierPlan(batch=3))
    with pytest.raises(UsageError, match="at least 250"):
        train_classifier(*shapes(30), ClassifierPlan())


def test_accuracy_counts():
    class Brightest(nn.Module):
        def forward(self, x):
            return torch.stack([1 - x.mean((1, 2, 3)), x.mean((1, 2, 3))], 1)

    images = torch.tensor([0, 255, 255, 0], dtype=torch.uint8)[:, None, None, None].expand(4, 1, 2, 2)
    for batch in (1, 3, 9):
        assert accuracy(Brightest(), images, torch.tensor([0, 1, 0, 0]), batch) == 0.75
    with pytest.raises(UsageError, match="4 images and 3 labels"):
        accuracy(Brightest(), images, torch.zeros(3))


def test_the_file_gives_the_network_back(tmp_path):
    net = Classifier((4, 8), classes=3).eval()
    nn.init.uniform_(net.body[1].running_mean)
    save_classifier(tmp_path / "c.safetensors", net, {"accuracy": "0.5"})
    back, notes, sha256 = open_classifier(tmp_path / "c.safetensors")
    assert (notes, back.options, len(sha256)) == ({"accuracy": "0.5"}, net.options, 64)
    x = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(back(x), net(x), atol=5e-3, rtol=0)


def test_wrong_files_are_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    save_file({"x": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match="is not a gankit classifier"):
        open_classifier(path)
    state = Classifier((4, 4), 3).state_dict()
    header = {"format": "gankit", "model": "fashion-classifier"}
    options = json.dumps({"widths": [4, 4], "classes": 3})
    for tensors, notes in (
        ({key: value for key, value in state.items() if key != "head.bias"}, {"options": options}),
        (state | {"more": torch.ones(1)}, {"options": options}),
        (state | {"head.weight": torch.ones(3, 5)}, {"options": options}),
        (state, {"options": "[1]"}),
        (state, {"options": '{"widths": [4, 0]}'}),
        (state, {}),
    ):
        save_file(tensors, path, header | notes)
        with pytest.raises(CheckpointError, match=r"c\.safetensors: damaged") as caught:
            open_classifier(path)
        assert "\n" not in str(caught.value)


@pytest.fixture
def fashion(tmp_path) -> Path:
    """A folder as that of Fashion-MNIST."""
    folder = tmp_path / "idx"
    folder.mkdir()
    for part, count in (("train", 120), ("t10k", 60)):
        images, classes = shapes(count, count)
        write_idx(folder / f"{part}-images-idx3-ubyte", images[:, 0].numpy())
        write_idx(folder / f"{part}-labels-idx1-ubyte", classes.numpy().astype(np.uint8))
    return folder


def test_the_commands(fashion, tmp_path):
    weights, log, figures = (tmp_path / name for name in ("c.safetensors", "log.csv", "f.json"))
    words = ["--data", fashion, "--output", weights, "--epochs", 6, "--batch", 20, "--log", log, "--quiet"]
    trained = CliRunner().invoke(evaluate, ["train-classifier", *map(str, words)])
    assert trained.exit_code == 0, trained.output
    assert log.read_text().splitlines()[0] == "step,seconds,loss"
    assert log.read_text().splitlines()[-1].startswith("36,")
    words = ["--data", fashion, "--model", weights, "--json", figures]
    measured = CliRunner().invoke(evaluate, ["classifier", *map(str, words)])
    assert measured.exit_code == 0, measured.output
    report = json.loads(figures.read_text())
    assert (report["n"], report["resize"], report["test"]) == (60, "none", "t10k-images-idx3-ubyte")
    assert report["accuracy"] > 0.5
    assert f"{report['accuracy']:.2%}" in trained.output
    assert open_classifier(weights)[1]["accuracy"] == f"{report['accuracy']:.4f}"


def test_missing_data_is_one_line(tmp_path):
    result = CliRunner().invoke(evaluate, ["classifier", "--data", str(tmp_path)])
    assert isinstance(result.exception, UsageError)
    assert "holds no t10k-images-idx3-ubyte" in str(result.exception)


@pytest.mark.slow
def test_the_shipped_one_is_as_good_as_its_card_says(data):
    from gankit.datasets.idx import official_files, read_labelled

    weights = shipped("fashion-classifier")
    card = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
    net, notes, sha256 = open_classifier(weights)
    assert sha256 == card["sha256"]
    assert weights.stat().st_size < 500_000
    assert float(notes["accuracy"]) >= 0.91
    images = official_files(data / "fashion_mnist", "t10k")
    if images is None:
        pytest.skip("no Fashion-MNIST")
    test = read_labelled(images)
    figure = accuracy(net, torch.from_numpy(test.images.copy())[:, None], torch.from_numpy(test.classes.copy()))
    assert figure == pytest.approx(float(notes["accuracy"]), abs=3e-4)
    assert figure == pytest.approx(card["figures"]["t10k"]["accuracy"], abs=3e-4)
