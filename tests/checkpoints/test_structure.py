"""Files with names that nobody knows: the order and shapes of the tensors give the images of the named layout."""

import logging
import random

import pytest
import torch
from torch import nn

from gankit import models
from gankit.checkpoints import open_model
from gankit.errors import CheckpointError
from gankit.models.dcgan import Discriminator as DCGANDiscriminator
from gankit.models.esrgan import Discriminator as ESRGANDiscriminator
from gankit.models.gan import Discriminator as GANDiscriminator
from gankit.models.patchgan import PatchGAN, PixelGAN
from gankit.models.sampling import latents
from gankit.models.srgan import Discriminator as SRGANDiscriminator
from tests.checkpoints import published_translation as translation
from tests.checkpoints.published import unlike_new
from tests.checkpoints.test_edsr_layouts import Arch, sons
from tests.checkpoints.test_foreign import _Lornatang
from tests.checkpoints.test_options import Compact, leaky
from tests.checkpoints.test_srgan_layouts import Erik
from tests.checkpoints.test_translation_files import OLD_INSTANCE


def renamed(state, seed=0):
    """The same tensors in the same order under random names, some with dots."""
    rng = random.Random(seed)
    names = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz_", k=8)) + rng.choice(["", ".w"]) for _ in state]
    return {f"{index}{name}": value for index, (name, value) in enumerate(zip(names, state.values(), strict=True))}


def images(loaded, seed=3):
    facts = loaded.facts
    if facts.task == "generate":
        inputs = [torch.from_numpy(latents(0, range(3), facts.latent))]
        inputs += [torch.arange(3) % facts.classes] if facts.classes else []
    else:
        step = max(facts.multiple, 8)
        side = -(-24 // step) * step
        low, high = facts.value_range
        generator = torch.Generator().manual_seed(seed)
        inputs = [torch.rand(1, facts.channels, side, side, generator=generator) * (high - low) + low]
    with torch.no_grad():
        return loaded.generator(*inputs)


def both(tmp_path, state, **options):
    torch.save(state, tmp_path / "named.pth")
    torch.save({"state_dict": renamed(state), "epoch": 3}, tmp_path / "renamed.pth")
    return open_model(tmp_path / "named.pth", **options), open_model(tmp_path / "renamed.pth", **options)


def same(tmp_path, state, **options):
    named, found = both(tmp_path, state, **options)
    assert found.facts.name == named.facts.name
    assert images(named).std() > 1e-4
    assert torch.equal(images(found), images(named))
    assert found.recognised.startswith("the order and shapes of its tensors: ")
    assert named.recognised.startswith("the names of its tensors: ")
    return named, found


BUILT = {
    "srgan ×2": ("srgan", {"scale": 2, "channels": 8, "blocks": 3}),
    "srgan ×8 gray": ("srgan", {"scale": 8, "channels": 4, "blocks": 1, "in_channels": 1}),
    "srgan deep": ("srgan", {"channels": 8, "blocks": 16}),
    "fast_srgan": ("fast_srgan", {"channels": 8, "blocks": 3}),
    "fast_srgan batch": ("fast_srgan", {"channels": 8, "blocks": 2, "norm": "batch", "scale": 2}),
    "fast_srgan depthwise": ("fast_srgan", {"channels": 8, "blocks": 2, "norm": "batch", "depthwise": True}),
    "srvgg": ("srvgg", {"channels": 8, "convs": 3}),
    "srvgg ×1": ("srvgg", {"channels": 8, "convs": 2, "scale": 1}),
    "srvgg relu": ("srvgg", {"channels": 8, "convs": 4, "activation": "relu", "scale": 2}),
    "cyclegan": ("cyclegan", {"channels": 8, "blocks": 3}),
    "pix2pix": ("pix2pix", {"channels": 4, "downs": 5, "norm": "batch"}),
    "animegan": ("animegan", {"channels": 4}),
    "dcgan": ("dcgan", {"widths": (16, 8, 4)}),
    "dcgan gray, 28": ("dcgan", {"widths": (16, 8), "channels": 1, "kernels": [[7, 1, 0], [4, 2, 1], [4, 2, 1]]}),
    "dcgan with biases": ("dcgan", {"widths": (16, 8), "bias": True}),
}


@pytest.mark.parametrize("case", BUILT)
def test_models_without_a_header(tmp_path, case):
    model, options = BUILT[case]
    torch.manual_seed(1)
    net = models.build(model, options)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.affine and model != "pix2pix":
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    state = {name: value for name, value in net.state_dict().items() if not name.startswith(("entrance.", "exit."))}
    if model == "fast_srgan":
        state = fast_names(state)
    same(tmp_path, state)


def fast_names(state):
    """The published names, by which the named file is recognised."""
    rules = (("head.", "neck."), ("neck.", "bottleneck."), ("upsampler.", "upsampling."), ("tail.", "head.0."))
    found = {}
    for name, value in state.items():
        new = next((new + name.removeprefix(old) for old, new in rules if name.startswith(old)), name)
        if name.startswith("body."):
            new = "stem." + name.removeprefix("body.").replace(".act.", ".relu1.")
        if name.startswith("upsampler."):
            new = new.replace(".act.", ".relu.")
        found[new] = value
    return found


REAL = [
    "fast_srgan_x4.pt",
    "mnist_cwgan_gp.pth",
    "mnist_gan_mlp.ckpt",
    "mnist_vae.pth",
    "realesr_animevideov3_x4.pth",
    "srgan_leftthomas_x4.pth",
]


@pytest.mark.parametrize("name", REAL)
def test_real_files(data, tmp_path, name):
    from gankit.checkpoints.files import read

    same(tmp_path, dict(read(data / "checkpoints" / name).tensors))


TRANSLATION = {
    "resnet": lambda: translation.ResNet(),
    "resnet batch": lambda: translation.ResNet(norm=nn.BatchNorm2d),
    "resnet dropout": lambda: translation.ResNet(dropout=0.5),
    "resnet old": lambda: translation.ResNet(norm=OLD_INSTANCE),
    "resnet gray to colour": lambda: translation.ResNet(ins=1, outs=3, blocks=6),
    "cut": lambda: translation.ResNet(cut=(True, True)),
    "cut down": lambda: translation.ResNet(cut=(True, False)),
    "unet": lambda: translation.UNet(),
    "unet 7": lambda: translation.UNet(7, ins=1, outs=3),
    "unet instance": lambda: translation.UNet(norm=nn.InstanceNorm2d),
    "unet old": lambda: translation.UNet(norm=OLD_INSTANCE),
    "animegan": lambda: translation.AnimeGAN(),
}


@pytest.mark.parametrize("case", TRANSLATION)
def test_translation(tmp_path, case):
    same(tmp_path, translation.shake(TRANSLATION[case]()).state_dict())


def test_superres_of_others(tmp_path):
    for net in (_Lornatang(), Erik(nn.PReLU, 0.8), Erik(nn.ReLU, 1e-5), Compact(lambda: nn.PReLU(8))):
        same(tmp_path, unlike_new(net).state_dict())


class Rrdb(nn.Module):
    """BasicSR's names in BasicSR's order."""

    def __init__(self, scale=4, blocks=2, width=8, growth=4, colours=3):
        super().__init__()
        folds = {4: 1, 2: 2, 1: 4}[scale]
        self.conv_first = nn.Conv2d(colours * folds**2, width, 3)
        self.body = nn.ModuleList()
        for _ in range(blocks):
            block = nn.Module()
            for dense in range(3):
                part = nn.Module()
                for conv in range(5):
                    out = width if conv == 4 else growth
                    setattr(part, f"conv{conv + 1}", nn.Conv2d(width + conv * growth, out, 3))
                setattr(block, f"rdb{dense + 1}", part)
            self.body.append(block)
        self.conv_body = nn.Conv2d(width, width, 3)
        self.conv_up1, self.conv_up2 = nn.Conv2d(width, width, 3), nn.Conv2d(width, width, 3)
        self.conv_hr, self.conv_last = nn.Conv2d(width, width, 3), nn.Conv2d(width, colours, 3)


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("colours", [1, 3])
def test_rrdb(tmp_path, scale, colours):
    state = unlike_new(Rrdb(scale, colours=colours)).state_dict()
    _, found = same(tmp_path, state)
    assert found.facts.scale == scale
    assert "slope=0.2" in found.assumed


def test_msrresnet(tmp_path):
    def layers(*names, width=8):
        return {name: nn.Conv2d(*pair, 3) for name, pair in names}

    names = [("conv_first", (3, 8))]
    state = {}
    for name, pair in [
        *names,
        *((f"body.{block}.conv{half}", (8, 8)) for block in range(3) for half in (1, 2)),
        ("upconv1", (8, 32)),
        ("upconv2", (8, 32)),
        ("conv_hr", (8, 8)),
        ("conv_last", (8, 3)),
    ]:
        state |= {f"{name}.{key}": value for key, value in nn.Conv2d(*pair, 3).state_dict().items()}
    _, found = same(tmp_path, state)
    assert (found.facts.name, found.facts.options["blocks"], found.assumed) == ("msrresnet", 3, "activated=true")


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("make", [sons, lambda scale: unlike_new(Arch("basicsr", scale))])
def test_edsr(tmp_path, make, scale):
    _, found = same(tmp_path, make(scale).state_dict())
    assert (found.facts.name, found.facts.scale, found.facts.options["blocks"]) == ("edsr", scale, 3)
    assert "res_scale=1" in found.assumed


def smooth_upscaler(model):
    """A network that keeps smooth images, because what its convolutions make of a gray one is taken off at the end."""
    torch.manual_seed(1)
    options = {"channels": 12, "blocks": 2} if model == "edsr" else {"channels": 12, "convs": 5, "activation": "relu"}
    net = models.build(model, options).eval().requires_grad_(False)
    first, *inner, last = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    first.weight *= 0.01  # images move the features little
    for layer in (first, *inner):
        layer.bias += 0.3  # and ReLUs let them through
    last.weight.zero_()
    last.weight[:, :, 1, 1] = 0.3
    features = []
    hook = last.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0][0, :, 16, 16]))
    net(torch.full((1, 3, 32, 32), 0.5))
    hook.remove()
    last.bias.fill_(-0.3 * features[0].sum())
    return net


@pytest.mark.parametrize("model", ["edsr", "srvgg"])
def test_residual_blocks_are_told_from_a_plain_stack_by_what_they_make(tmp_path, model):
    """gankit's EDSR and a compact network with ReLUs have the same shapes."""
    net = smooth_upscaler(model)
    torch.save(renamed(net.state_dict()), tmp_path / "a.pth")
    loaded = open_model(tmp_path / "a.pth")
    assert loaded.facts.name == model
    image = torch.rand(1, 3, 24, 24)
    assert torch.equal(loaded.generator(image), net(image))
    assert ("EDSR ×4 with 2 blocks" if model == "edsr" else "SRVGGNetCompact ×4") in loaded.recognised
    assert "a smooth image keeps" in loaded.assumed


def test_other_norms_and_biases(tmp_path):
    """What gankit's own layouts do not have: biases before a BatchNorm, InstanceNorms with weights."""
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for norm in (nn.BatchNorm2d, lambda width: nn.InstanceNorm2d(width, affine=True)):

        class Biased(translation.ResNet):
            pass

        theirs = Biased(norm=lambda width, norm=norm: norm(width))  # not BatchNorm2d itself, so that biases stay
        translation.shake(theirs).eval()
        torch.save(renamed(theirs.state_dict()), tmp_path / "a.pth")
        loaded = open_model(tmp_path / "a.pth")
        assert loaded.facts.name == "cyclegan"
        with torch.no_grad():
            torch.testing.assert_close(loaded.generator(x), theirs(x), atol=1e-5, rtol=0)


def test_one_line_says_what_was_assumed(tmp_path, caplog):
    torch.save(renamed(models.build("srgan", {"channels": 8, "blocks": 2}).state_dict()), tmp_path / "a.pth")
    with caplog.at_level(logging.WARNING):
        open_model(tmp_path / "a.pth")
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"{tmp_path / 'a.pth'}: recognised by the order and shapes of its tensors: SRResNet")
    for word in ("values_in=unit", "output=linear", "--model-option"):
        assert word in line
    caplog.clear()
    other = open_model(tmp_path / "a.pth", options={"output": "tanh", "values_in": "signed"})
    assert other.facts.options["output"] == "tanh"
    assert "output=linear" not in caplog.text


def test_an_activation_that_leaves_no_trace(tmp_path):
    state = renamed(unlike_new(Compact(leaky)).state_dict())
    torch.save(state, tmp_path / "a.pth")
    loaded = open_model(tmp_path / "a.pth")
    assert (loaded.facts.options["activation"], loaded.assumed.split(",")[0]) == ("relu", "activation=relu")
    assert open_model(tmp_path / "a.pth", options={"activation": "leaky"}).facts.options["activation"] == "leaky"


def plain_stack(count, width=8):
    pairs = [(3, width), *[(width, width)] * count, (width, 3)]
    return nn.Sequential(*(nn.Conv2d(*pair, 3) for pair in pairs)).state_dict()


def test_ambiguity_is_refused_and_named(tmp_path):
    torch.save(renamed(plain_stack(8)), tmp_path / "a.pth")
    words = r"a\.pth: .*fit SRVGGNetCompact ×1, .*VDSR.* and MSRResNet0 ×4 with 2 blocks: say which .*scale=4"
    with pytest.raises(CheckpointError, match=words):
        open_model(tmp_path / "a.pth")
    assert open_model(tmp_path / "a.pth", options={"scale": 4}).facts.name == "msrresnet0"
    assert open_model(tmp_path / "a.pth", options={"activation": "relu"}).facts.name == "srvgg"


DISCRIMINATORS = {
    "patch": lambda: PatchGAN(),
    "patch of pairs": lambda: PatchGAN(6, norm="batch"),
    "patch of five": lambda: PatchGAN(3, 16, 5),
    "pixel": lambda: PixelGAN(),
    "srgan": lambda: SRGANDiscriminator(channels=8),
    "esrgan": lambda: ESRGANDiscriminator(channels=8),
    "dcgan": lambda: DCGANDiscriminator(),
    "dcgan gray": lambda: DCGANDiscriminator((32, 16), 1, norm="spectral"),
    "gan": lambda: GANDiscriminator(),
}


@pytest.mark.parametrize("case", DISCRIMINATORS)
@pytest.mark.parametrize("named", [False, True])
def test_discriminators_are_named(tmp_path, case, named):
    state = DISCRIMINATORS[case]().state_dict()
    torch.save(state if named else renamed(state), tmp_path / "D.pth")
    with pytest.raises(CheckpointError, match=r"D\.pth: a discriminator \(\d+ layers, from \d+ (channels|numbers)"):
        open_model(tmp_path / "D.pth")


def test_generators_are_no_discriminators():
    from gankit.checkpoints.structure.discriminators import discriminator

    for name in models.MODELS:
        for options in ({}, {"channels": 1}, {"in_channels": 1}):
            if not options.keys() <= models.known_options(name).keys():
                continue
            with torch.device("meta"):
                state = models.build(name, options).state_dict()
            assert discriminator([tuple(value.shape) for value in state.values() if value.is_floating_point()]) is None


def test_a_generator_beside_its_discriminator(tmp_path):
    state = models.build("srgan", {"channels": 8, "blocks": 2}).state_dict()
    torch.save(
        {"gen": renamed(state), "disc": renamed(SRGANDiscriminator(channels=8).state_dict())}, tmp_path / "a.pth"
    )
    assert open_model(tmp_path / "a.pth").facts.name == "srgan"


@pytest.mark.parametrize("change", ["drop", "swap", "add"])
def test_what_nearly_fits_is_unknown(tmp_path, change):
    state = renamed(models.build("srgan", {"channels": 8, "blocks": 3}).state_dict())
    names = [name for name, value in state.items() if value.is_floating_point()]
    if change == "drop":
        del state[names[7]]
    elif change == "swap":
        state = dict(sorted(state.items(), key=lambda item: item[1].ndim))
    else:
        state["more"] = torch.zeros(8, 8, 5, 5)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="unknown architecture"):
        open_model(tmp_path / "a.pth")


def numbered(state):
    """The names that one ``nn.Sequential`` of all layers gives."""
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in state))
    names = {name: f"stack.{layers.index(name.rpartition('.')[0])}.{name.rpartition('.')[2]}" for name in state}
    return {names[name]: value.contiguous() for name, value in state.items() if value.is_floating_point()}


@pytest.mark.parametrize("case", ["srgan deep", "srvgg", "dcgan", "cyclegan"])
def test_safetensors_by_the_numbers_in_the_names(tmp_path, case):
    from safetensors.torch import save_file

    model, options = BUILT[case]
    torch.manual_seed(1)
    net = models.build(model, options)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)
    torch.save(net.state_dict(), tmp_path / "named.pth")
    save_file(numbered(net.state_dict()), tmp_path / "a.safetensors")
    named, found = open_model(tmp_path / "named.pth"), open_model(tmp_path / "a.safetensors")
    assert torch.equal(images(found), images(named))


def test_safetensors_whose_names_tell_no_order_are_not_guessed(tmp_path):
    from safetensors.torch import save_file

    state = {name: value for name, value in models.build("dcgan").state_dict().items() if value.is_floating_point()}
    words = {name: name.replace("main.", "layer_") for name in state}
    save_file({words[name]: value.contiguous() for name, value in state.items()}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="unknown architecture"):
        open_model(tmp_path / "a.safetensors")


@pytest.mark.parametrize("names", ["kept", "lost"])
def test_parts_of_a_norm_in_another_order_are_not_taken(tmp_path, names):
    """All four have one shape: sorted by name, the bias would be taken for the weight."""
    net = models.build("dcgan", {"widths": (16, 8)})
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.bias, -0.2, 0.2)
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)
    state = {f"{name.replace('main', 'net')}": value for name, value in sorted(net.state_dict().items())}
    if names == "lost":  # weight, running variance, running mean, bias
        state = renamed(dict(sorted(state.items(), key=lambda item: item[0].rpartition(".")[0])))
        norms = [name for name, value in state.items() if value.ndim == 1]
        for start in range(0, len(norms), 4):
            state[norms[start + 3]] = state[norms[start]]
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="unknown architecture"):
        open_model(tmp_path / "a.pth")


def test_the_decoder_of_a_vae_alone(data, tmp_path):
    whole = open_model(data / "checkpoints" / "mnist_vae.pth")
    state = torch.load(data / "checkpoints" / "mnist_vae.pth", weights_only=True)
    state = {name: value for name, value in state.items() if name.startswith(("fc3", "fc4"))}
    assert len(state) == 4
    torch.save(renamed(state), tmp_path / "a.pth")
    loaded = open_model(tmp_path / "a.pth")
    assert "output=sigmoid" in loaded.assumed
    assert torch.equal(images(loaded), images(whole))
    assert open_model(tmp_path / "a.pth", options={"output": "tanh"}).facts.value_range == (-1, 1)


def test_the_range_of_values_is_measured_where_the_weights_are_trained(data, tmp_path):
    """The same network behind an input in [-1, 1]: no shape tells it, and the usual reading gives other images."""
    path = data / "checkpoints" / "srgan_leftthomas_x4.pth"
    state = torch.load(path, weights_only=True, map_location="cpu")
    kernel = state["block1.0.weight"]
    state["block1.0.weight"] = kernel / 2
    state["block1.0.bias"] = state["block1.0.bias"] + kernel.sum((1, 2, 3)) / 2
    torch.save(renamed(state), tmp_path / "a.pth")
    loaded = open_model(tmp_path / "a.pth")
    assert (loaded.facts.options["values_in"], loaded.facts.options["output"]) == ("signed", "tanh")
    assert "values_in=signed" in loaded.assumed
    assert "a smooth image keeps" in loaded.assumed
    inner = slice(80, -80)  # zeros at the border are another value there
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    wanted = open_model(path).generator(image)
    torch.testing.assert_close(loaded.generator(image)[..., inner, inner], wanted[..., inner, inner], atol=1e-4, rtol=0)
    stated = open_model(tmp_path / "a.pth", options={"values_in": "unit"})
    assert stated.facts.options.get("values_in", "unit") == "unit"


def test_eriklindernorens_rrdb(tmp_path):
    state = unlike_new(Rrdb(4)).state_dict()
    rules = {"conv_first": "conv1", "conv_body": "conv2", "conv_hr": "conv3.0", "conv_last": "conv3.2"}
    found = {}
    for name, value in state.items():
        first, _, rest = name.partition(".")
        if first == "body":
            block, dense, conv, part = rest.split(".")
            found[f"res_blocks.{block}.dense_blocks.{int(dense[3:]) - 1}.b{conv[4:]}.0.{part}"] = value
        elif first.startswith("conv_up"):
            found[f"upsampling.{3 * (int(first[7:]) - 1)}.{rest}"] = value.repeat_interleave(4, 0)
        else:
            found[f"{rules[first]}.{rest}"] = value
    _, loaded = same(tmp_path, found)
    assert (loaded.facts.options["slope"], loaded.facts.options["values_in"]) == (0.01, "imagenet")
    assert "slope=0.01" in loaded.assumed


@pytest.mark.parametrize("name", ["gan", "cgan"])
def test_epsilon_and_activation_are_measured_in_the_norms(tmp_path, name):
    """Most code has an epsilon of 0.8 there, which is assumed; these networks have 1e-5, and their norms show it."""
    ours = open_model(name)
    torch.save(renamed(ours.generator.state_dict()), tmp_path / "a.pth")
    loaded = open_model(tmp_path / "a.pth")
    assert dict(loaded.facts.options) == dict(ours.facts.options)
    assert "eps=1e-05, activation=leaky_relu" in loaded.assumed
    assert "the variances that they remember" in loaded.assumed
    assert torch.equal(images(loaded), images(ours))
    assert open_model(tmp_path / "a.pth", options={"eps": 0.5}).facts.options["eps"] == 0.5
