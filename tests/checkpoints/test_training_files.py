"""Files that training scripts write: the tensors are read whatever is beside them, and no code is run."""

import argparse
import collections
import datetime
import decimal
import enum
import functools
import logging
import pathlib
import pickle
import sys
import types
import uuid

import numpy as np
import pytest
import torch

from gankit.checkpoints import open_model
from gankit.errors import CheckpointError
from tests.checkpoints.conftest import OPTIONS


class Colour(enum.Enum):
    RED = 1


def filled():
    found = collections.defaultdict(list)
    found["loss"].append(0.5)
    return found


BESIDE = {
    "scalar": np.float64(31.2),
    "integer": np.int64(5),
    "bool": np.bool_(True),
    "array": np.arange(5.0),
    "objects": np.array([{"a": 1}, None], dtype=object),
    "legacy rng": np.random.RandomState(0).get_state(),
    "rng": np.random.default_rng(0),
    "dtype": np.dtype("float32"),
    "namespace": argparse.Namespace(lr=1e-4, path=pathlib.PosixPath("/x")),
    "simple namespace": types.SimpleNamespace(lr=1e-4),
    "path": pathlib.PosixPath("/x"),
    "paths as keys": {pathlib.PosixPath("/x"): 1, Colour.RED: 2},
    "windows path": pathlib.PureWindowsPath("C:/x"),
    "date": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
    "time": datetime.timedelta(seconds=3),
    "defaultdict": collections.defaultdict(list),
    "filled defaultdict": filled(),
    "nested defaultdict": collections.defaultdict(dict, a=collections.defaultdict(int, b=2)),
    "ordered": collections.OrderedDict(a=np.float32(1)),
    "counter": collections.Counter("aab"),
    "deque": collections.deque([1, 2], maxlen=3),
    "set": {1, 2},
    "slice": slice(1, 2),
    "range": range(3),
    "decimal": decimal.Decimal("0.1"),
    "uuid": uuid.UUID(int=7),
    "partial": functools.partial(torch.optim.Adam, lr=1e-4),
    "complex": 1 + 2j,
    "rng tensor": torch.get_rng_state(),
    "dtype of torch": torch.float16,
    "device": torch.device("cpu"),
    "optimiser": torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))]).state_dict(),
    "scheduler": torch.optim.lr_scheduler.LambdaLR(torch.optim.SGD([torch.zeros(1)], 0.1), abs),
    "function": torch.nn.functional.relu,
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("what", BESIDE)
def test_beside_the_tensors(tmp_path, generator, batch, what, legacy, caplog):
    content = {"before": BESIDE[what], "state_dict": generator.state_dict(), "after": [{"deep": BESIDE[what]}]}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    with caplog.at_level(logging.WARNING):
        loaded = open_model(tmp_path / "a.pth")
    assert torch.equal(loaded.generator(batch), generator(batch))
    own = [record for record in caplog.records if "Colour" not in record.getMessage()]
    assert not own, "nothing is said of what every training script stores"


@pytest.fixture
def project():
    """A project whose classes exist where the file is made, and not where it is read."""
    module = types.ModuleType("myproject")

    class Config:
        def __init__(self):
            self.lr = 1e-4

    class Options(dict):
        def __init__(self, **items):
            super().__init__(items)
            self.__dict__ = self

    class Names(list):
        pass

    class Slotted:
        __slots__ = ("a", "b")

    class Eager:
        def __reduce__(self):
            return build, (3,)

    def build(number):
        raise AssertionError("run")

    for item in (Config, Options, Names, Slotted, Eager, build):
        item.__module__, item.__qualname__ = "myproject", item.__name__
        setattr(module, item.__name__, item)
    sys.modules["myproject"] = module
    yield module
    sys.modules.pop("myproject", None)


def objects(project):
    slotted = project.Slotted()
    slotted.a, slotted.b = 1, [2]
    return {
        "Config": project.Config(),
        "Options": project.Options(lr=1, betas=(0.5, 0.9)),
        "Names": project.Names(["a", "b"]),
        "Slotted": slotted,
        "build": project.Eager(),
    }


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", ["Config", "Options", "Names", "Slotted", "build"])
def test_classes_of_the_users_own(tmp_path, generator, batch, project, name, legacy, caplog):
    state = {f"net_g.{key}": value for key, value in generator.state_dict().items()}
    content = {"epoch": 3, "hyper_parameters": {"cfg": objects(project)[name]}, "state_dict": state}
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=not legacy)
    del sys.modules["myproject"]
    with caplog.at_level(logging.WARNING):
        loaded = open_model(tmp_path / "a.ckpt")
    assert torch.equal(loaded.generator(batch), generator(batch))
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"{tmp_path / 'a.ckpt'}: read the tensors, and skipped objects")
    assert line.endswith(f": myproject.{name}")


def test_many_classes_in_one_line(tmp_path, generator, project, caplog):
    torch.save({"state_dict": generator.state_dict(), **objects(project)}, tmp_path / "a.ckpt")
    with caplog.at_level(logging.WARNING):
        open_model(tmp_path / "a.ckpt")
    (line,) = [record.getMessage() for record in caplog.records]
    assert "myproject.Config, myproject.Options, myproject.Names and 2 more" in line


def test_torch_forgets_the_stand_ins(tmp_path, generator, project):
    torch.save({"state_dict": generator.state_dict(), "cfg": project.Config()}, tmp_path / "a.ckpt")
    before = torch.serialization.get_safe_globals()
    open_model(tmp_path / "a.ckpt")
    assert torch.serialization.get_safe_globals() == before
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "a.ckpt", weights_only=True)


class Runs:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (eval, ("1",)),
        (exec, ("1",)),
        (open, ("owned", "w")),
        (__import__("subprocess").check_output, (["true"],)),
        (__import__("importlib").import_module, ("this",)),
        (__import__("shutil").rmtree, ("owned",)),
        (__import__("runpy").run_path, ("owned",)),
        (torch.hub.load, ("a/b", "c")),
    ],
)
def test_what_would_run_code_is_refused_beside_weights_too(tmp_path, generator, function, arguments, legacy):
    content = {"state_dict": generator.state_dict(), "args": argparse.Namespace(x=Runs(function, *arguments))}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"a\.pth: refused, because loading it would run code \(") as caught:
        open_model(tmp_path / "a.pth")
    assert "\n" not in str(caught.value)


PREFIXES = [
    *("net_g", "net_G", "netG", "netG_A", "G", "g", "gen", "generator", "model", "net", "g_model", "G_ema"),
    *("model.generator", "module.net_g", "_orig_mod.G", "model.netG_A", "net_g.module._orig_mod", "model.model.net"),
    *("myname", "model.myname"),
]


@pytest.mark.parametrize("others", [False, True])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes(tmp_path, generator, batch, prefix, others):
    state = {f"{prefix}.{name}": value for name, value in generator.state_dict().items()}
    if others:
        first = "model." if prefix.startswith("model.netG") else ""
        state |= {
            f"{first}discriminator.conv.weight": torch.zeros(64, 3, 3, 3),
            f"{first}netD.conv.bias": torch.zeros(64),
        }
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.4.0"}, tmp_path / "a.ckpt")
    loaded = open_model(tmp_path / "a.ckpt")
    assert dict(loaded.facts.options) == OPTIONS
    assert torch.equal(loaded.generator(batch), generator(batch))


def test_averaged_weights_are_preferred(tmp_path, generator, batch):
    state = generator.state_dict()
    both = {f"gen.{name}": torch.zeros_like(value) for name, value in state.items()}
    both |= {f"gen_ema.{name}": value for name, value in state.items()}
    torch.save({"state_dict": both}, tmp_path / "a.ckpt")
    assert torch.equal(open_model(tmp_path / "a.ckpt").generator(batch), generator(batch))


@pytest.mark.parametrize(
    "key", ["my_own_generator", "params_ema", "g_ema", "model_state_dict", "generator", "gen_state_dict", "netG", "G"]
)
@pytest.mark.parametrize("deep", [False, True])
def test_containers(tmp_path, generator, batch, key, deep):
    inner = {key: generator.state_dict()}
    inner["rng_state"] = torch.get_rng_state()
    torch.save({"epoch": 1, "netD": {"a": torch.zeros(2)}, **({"state": inner} if deep else inner)}, tmp_path / "a.pth")
    assert torch.equal(open_model(tmp_path / "a.pth").generator(batch), generator(batch))


@pytest.mark.parametrize("prefix", ["", "model.", "gen.", "module.model."])
def test_names_that_begin_like_a_prefix_stay(tmp_path, prefix):
    """CycleGAN's own names begin with ``model.``."""
    from tests.checkpoints.published_translation import ResNet, UNet, shake

    for net in (ResNet(), UNet()):
        theirs = shake(net)
        torch.save({f"{prefix}{name}": value for name, value in theirs.state_dict().items()}, tmp_path / "a.pth")
        loaded = open_model(tmp_path / "a.pth")
        assert loaded.facts.name in ("cyclegan", "pix2pix")


@pytest.mark.parametrize("rest", ["refine.0.weight", "scale_and_shift"])
def test_a_part_of_a_network_is_not_taken_for_all_of_it(tmp_path, generator, rest):
    state = {f"net.{name}": value for name, value in generator.state_dict().items()}
    torch.save({**state, rest: torch.zeros(3, 3, 1, 1)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="unknown architecture"):
        open_model(tmp_path / "a.pth")


def test_a_discriminator_with_a_generators_prefix_beside_it(tmp_path, generator, batch):
    state = {f"backbone.{name}": value for name, value in generator.state_dict().items()}
    torch.save({**state, "d.0.weight": torch.zeros(3, 3, 1, 1), "step": torch.tensor(3)}, tmp_path / "a.pth")
    assert torch.equal(open_model(tmp_path / "a.pth").generator(batch), generator(batch))
