"""Images through translation networks: any size, the same size out, colours and transparency as they should be."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gankit import Translator, cli
from gankit.backends.base import EngineSpec
from gankit.backends.eager import EagerBackend
from gankit.checkpoints import save
from gankit.errors import CheckpointError, UsageError
from gankit.images import DecodedImage, decode
from gankit.models import build
from gankit.models.facts import Facts
from gankit.pipeline import runner
from gankit.pipeline.translation import TranslationProcessor
from tests.opening import opened
from tests.variants import others_slow


def image(height, width, seed=0):
    """A smooth image, every part of it different."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 6 + 2, width // 6 + 2, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A narrow CycleGAN generator with a file of its own."""
    torch.manual_seed(3)
    options = {"channels": 8, "blocks": 2}
    net = build("cyclegan", options).eval()
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 0.15)
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save(path, net.state_dict(), "cyclegan", options, dtype=torch.float32)
    return path, net


def by_hand(net, pixels, multiple):
    """Mirror up to the multiple, and to 8, run, crop: with torch alone."""
    height, width = pixels.shape[:2]
    missing = [max(-side % multiple, 8 - side) for side in (height, width)]
    padded = np.pad(pixels, (*((0, count) for count in missing), (0, 0)), mode="reflect")
    batch = torch.from_numpy(padded.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.inference_mode():
        result = (net(batch)[0] + 1) * 127.5
    return result[:, :height, :width].permute(1, 2, 0).clamp(0, 255).round().byte().numpy()


@pytest.mark.parametrize("size", others_slow([(33, 50), (3, 1), (32, 48), (10, 9)]))
@pytest.mark.parametrize("backend", ["eager", "onnxruntime", "openvino"])
def test_any_size_in_and_the_same_out(weights, size, backend):
    path, net = weights
    pixels = image(*size)
    with Translator(path, backend=backend, precision="fp32") as translator:
        result = translator(pixels)
    assert result.shape == pixels.shape
    wanted = by_hand(net, pixels, 4)
    assert np.abs(result.astype(int) - wanted).max() <= 1
    assert wanted.std() > 5  # else it proves nothing


@pytest.mark.parametrize("backend", ["eager", "onnxruntime", "openvino"])
def test_images_of_one_size_share_a_call(weights, tmp_path, monkeypatch, backend):
    """Batched or not, a whole-image norm sees one image. The engine waits till the queue of 4 is full or done."""
    path, net = weights
    sizes = [(32, 48)] * 5 + [(33, 50)] + [(32, 48)] * 2
    folder = tmp_path / "in"
    folder.mkdir()
    for index, size in enumerate(sizes):
        Image.fromarray(image(*size, seed=index)).save(folder / f"{index}.png")
    counts = []
    many, others = TranslationProcessor.images, runner.filled_call

    def wait(first, decoded, batching):
        with decoded._stop.condition:
            decoded._stop.wait_for(lambda: len(decoded._items) == 4 or not decoded._open)
        return others(first, decoded, batching)

    monkeypatch.setattr(runner, "filled_call", wait)
    # one decoder, whatever the machine
    monkeypatch.setattr("gankit.pipeline.job_run.thread_counts", lambda limit=None: {})
    monkeypatch.setattr(
        TranslationProcessor, "images", lambda self, items: counts.append(len(items)) or many(self, items)
    )
    with Translator(path, backend=backend, precision="fp32", batch=4) as translator:
        report = translator.run(folder, tmp_path / "out")
    assert not report.failures
    assert counts == [4, 2], "0 to 3; then 4 alone, since 5 is of another size, 5 alone, 6 and 7"
    for index, size in enumerate(sizes):
        wanted = by_hand(net, image(*size, seed=index), 4)
        assert np.abs(decode(tmp_path / "out" / f"{index}.png").pixels.astype(int) - wanted).max() <= 1


def test_a_batch_of_images_equals_one_after_another(weights):
    path, _ = weights
    images = [DecodedImage(image(32, 48, seed), alpha=image(32, 48, seed)[..., 0].copy()) for seed in range(3)]
    with Translator(path, backend="eager", precision="fp32", batch=3) as translator:
        processor = translator._engines.fast()
        assert processor.shared_call(images[0]) == 3
        results = processor.images(images)
        alone = [processor.image(item) for item in images]
    for result, other, item in zip(results, alone, images, strict=True):
        assert np.abs(result.pixels.astype(int) - other.pixels).max() <= 1
        assert np.array_equal(result.alpha, item.alpha)
        assert result.pixels.flags.c_contiguous


def test_auto_finds_an_engine(weights):
    path, net = weights
    with Translator(path) as translator:
        result = translator(image(40, 40))
    assert np.abs(result.astype(int) - by_hand(net, image(40, 40), 4)).mean() < 2


def test_transparency_stays_and_gray_gets_colours(weights, tmp_path):
    path, net = weights
    colours, alpha = image(24, 28), image(24, 28, 1)[..., 0]
    Image.fromarray(np.dstack([colours, alpha])).save(tmp_path / "a.png")
    Image.fromarray(alpha).save(tmp_path / "g.png")
    with Translator(path, backend="eager", precision="fp32") as translator:
        report = translator.run([tmp_path / "a.png", tmp_path / "g.png"], tmp_path / "out")
    assert not report.failures
    done = decode(tmp_path / "out" / "a.png")
    assert np.array_equal(done.alpha, alpha)
    assert np.abs(done.pixels.astype(int) - by_hand(net, colours, 4)).max() <= 1
    gray = decode(tmp_path / "out" / "g.png")
    assert not gray.gray
    assert np.abs(gray.pixels.astype(int) - by_hand(net, np.dstack([alpha] * 3), 4)).max() <= 1


def test_16_bit_stays_16_bit(weights):
    path, net = weights
    deep = image(16, 20).astype(np.uint16) * 257
    with Translator(path, backend="eager") as translator:
        result = translator(deep)
    assert result.dtype == np.uint16
    assert np.abs(result / 257.0 - by_hand(net, image(16, 20), 4)).max() < 1


class Channels(nn.Module):
    """``made`` channels, each the mean of the input's."""

    def __init__(self, made):
        super().__init__()
        self.made = made

    def forward(self, x):
        return x.mean(1, keepdim=True).repeat(1, self.made, 1, 1)


def processor(taken, made):
    facts = Facts(name="test", task="translate", channels=taken, value_range=(-1, 1), out_channels=made)
    return TranslationProcessor(EagerBackend().load(EngineSpec(Channels(made).eval(), facts)), facts, 0)


def test_a_generator_of_one_channel_gets_the_luma():
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:, :2], pixels[:, 2:4], pixels[:, 4:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    result = processor(1, 3).image(DecodedImage(pixels))
    assert not result.gray
    assert result.pixels[0, ::2].tolist() == [[76] * 3, [150] * 3, [29] * 3]  # Pillow's convert("L") gives the same
    assert result.pixels[0, ::2, 0].tolist() == np.asarray(Image.fromarray(pixels).convert("L"))[0, ::2].tolist()


def test_one_channel_out_is_a_gray_image():
    pixels = image(5, 7)
    result = processor(3, 1).image(DecodedImage(pixels))
    assert result.gray
    assert np.abs(result.pixels[..., 0] - pixels.mean(2)).max() <= 1
    deep = processor(1, 1).image(DecodedImage(np.full((3, 3, 3), 65535, np.uint16)))
    assert (deep.pixels == 65535).all()


def test_channels_that_no_image_has():
    with pytest.raises(UsageError, match="makes 2 channels of 3, but images have 1 or 3"):
        processor(3, 2).image(DecodedImage(image(5, 7)))


def test_the_wrong_task(weights, tmp_path, capsys):
    path, _ = weights
    Image.fromarray(image(8, 8)).save(tmp_path / "a.png")
    assert cli.main(["translate", str(tmp_path / "a.png"), "--model", "srgan", "--output", str(tmp_path / "o")]) == 2
    assert "'srgan' is a model to upscale, not to translate; use `gankit upscale`" in capsys.readouterr().err
    assert cli.main(["upscale", str(tmp_path / "a.png"), "--model", str(path), "--output", str(tmp_path / "o")]) == 2
    assert "is a model to translate, not to upscale; use `gankit translate`" in capsys.readouterr().err


def test_the_command(weights, tmp_path, capsys):
    path, _ = weights
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a.png", "b.jpg"):
        Image.fromarray(image(20, 30)).save(source / name)
    (source / "broken.png").write_bytes(b"no image")
    out = tmp_path / "out"
    command = ["translate", str(source), "--model", str(path), "--backend", "eager", "--output", str(out)]
    assert cli.main(command) == 1
    said = capsys.readouterr()
    assert "broken.png" in said.err
    assert "2 done, 1 failed" in said.out
    assert opened(out / "a.png").size == (30, 20)
    assert cli.main([*command, "--direction", "AtoB"]) == 2
    assert "neither its keys nor its name show the direction" in capsys.readouterr().err
    assert cli.main([*command, "--tile", "64"]) == 2
    assert "needs the whole image and cannot be tiled" in capsys.readouterr().err


def test_a_image_above_the_limit_runs_in_strips(weights, monkeypatch):
    path, net = weights
    pixels, reported = image(90, 70), []
    monkeypatch.setattr("gankit.pipeline.engines.available_memory", lambda limit: 200_000)
    with Translator(path, backend="eager", precision="fp32", notify=reported.append) as translator:
        result = translator(pixels)
        small = translator(image(8, 8))
    assert np.abs(result.astype(int) - by_hand(net, pixels, 4)).max() <= 1
    assert np.abs(small.astype(int) - by_hand(net, image(8, 8), 4)).max() <= 1
    assert any("layerwise" in line for line in reported)
    monkeypatch.undo()
    with Translator(path, backend="eager", precision="fp32", notify=reported.clear) as translator:
        assert np.abs(translator(pixels).astype(int) - result).max() <= 1


def test_footprint_is_what_the_layers_take(weights):
    """By hand: at the widest place the last ReLU's 8 channels, padded by 3 all round, beside what they came from."""
    from gankit.backends.choice.low_memory import Footprint
    from gankit.checkpoints import open_model

    footprint = Footprint(open_model(weights[0]))
    assert footprint.bytes(64, 64, "fp32") == 2 * 4 * 8 * (64 * 64 + 70 * 70)
    assert footprint.bytes(61, 62, "bf16") == 2 * 2 * 8 * (64 * 64 + 70 * 70)


def test_sizes_on_the_command_line(weights, tmp_path, capsys, monkeypatch):
    path, _ = weights
    Image.fromarray(image(30, 30)).save(tmp_path / "a.png")
    command = ["translate", str(tmp_path / "a.png"), "--model", str(path), "--backend", "eager", "-o"]
    assert cli.main([*command, str(tmp_path / "o"), "--max-memory", "50MB"]) == 1
    assert "takes about" in capsys.readouterr().err
    monkeypatch.setattr("gankit.pipeline.engines.available_memory", lambda limit: 100_000)
    assert cli.main([*command, str(tmp_path / "o"), "--max-memory", "500GB"]) == 0
    assert "layerwise" in capsys.readouterr().err
    assert cli.main([*command, str(tmp_path / "o"), "--max-memory", "much"]) == 2
    assert "'much' is not a size such as 500MB or 2GiB" in capsys.readouterr().err


def test_batch_norm_by_the_image_or_by_running_statistics(tmp_path):
    """pix2pix runs as its paper does, which is BatchNorm in training mode at batch 1; ``norm="eval"`` is the other."""
    torch.manual_seed(0)
    options = {"channels": 8, "downs": 3, "norm": "batch", "norm_at_test": "eval"}
    net = build("pix2pix", options)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 0.2)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 3)
    torch.save(net.state_dict(), tmp_path / "latest_net_G.pth")
    pixels, found = image(16, 24), {}
    for norm in ("instance", "eval", None):
        with Translator(tmp_path / "latest_net_G.pth", backend="eager", precision="fp32", norm=norm) as translator:
            found[norm] = translator(pixels).astype(int)
    assert np.array_equal(found[None], found["instance"])
    assert np.abs(found["eval"] - by_hand(net.eval(), pixels, 8)).max() <= 1
    trained = net.train()
    for module in trained.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    assert np.abs(found["instance"] - by_hand(trained, pixels, 8)).max() <= 1
    assert np.abs(found["instance"] - found["eval"]).max() > 20
    with pytest.raises(CheckpointError, match="no BatchNorm with a choice of statistics"):
        Translator("srgan", norm="eval")(pixels)
    with pytest.raises(CheckpointError, match="holds no running statistics of its BatchNorms: omit --norm eval"):
        Translator("nuclei-masks", norm="eval")(pixels)
