"""What training does on a GPU, as far as it can be seen without one."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import Dataset
from training_making import SMALL, score

from gankit.datasets.degradations import PHOTO
from gankit.datasets.patches import SuperResolutionPatches
from gankit.datasets.synthetic import synthetic_image
from gankit.training import fabric, loader
from gankit.training.optimisers import Average, set_learning_rate
from gankit.training.systems.srgan import AdversarialSystem, ContentSystem
from gankit.training.systems.superres_options import UNET, AdversarialOptions, ContentOptions


class Indices(Dataset):
    def __len__(self):
        return 2**40

    def __getitem__(self, index):
        return index


@pytest.mark.parametrize(("kind", "wanted"), [("cpu", False), ("cuda", True)])
def test_batches_for_a_gpu_are_pinned(kind, wanted, monkeypatch):
    asked = []
    real = loader.DataLoader

    def made(*arguments, pin_memory, **options):
        asked.append(pin_memory)
        return real(*arguments, **options)

    monkeypatch.setattr(loader, "DataLoader", made)
    pin = loader.pinned(SimpleNamespace(device=torch.device(kind)))
    assert next(loader.batches(Indices(), 2, 3, pin=pin)).tolist() == [6, 7]
    assert asked == [wanted]


@pytest.mark.parametrize(("kind", "wanted"), [("cpu", False), ("cuda", True)])
def test_convolutions_are_searched_on_a_gpu_only(kind, wanted, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    fabric._search_convolutions(torch.device(kind))
    assert torch.backends.cudnn.benchmark is wanted


def cuda_system(recipe, **options):
    torch.manual_seed(0)
    given = {"steps": 40, "model": SMALL, "warmup": 0, **options}
    there = fabric.fabric_for("cuda")
    if recipe == "srgan":
        given |= {"head_start": 0, "discriminator_channels": 8, **{k: v for k, v in UNET.items() if k not in given}}
        return AdversarialSystem(AdversarialOptions(network="edsr", discriminator="unet", **given), there, score)
    return ContentSystem(ContentOptions(network=recipe, **given), there, score)


def pinned_batches():
    image = synthetic_image(1, size=256)
    patches = SuperResolutionPatches([image], patch=24, synthetic=0, reductions=(1.0,), degradation=PHOTO)
    return loader.batches(patches, 16, 0, 2, pin=True, together=4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("recipe", ["edsr", "srresnet", "srgan"])
def test_no_step_waits_for_the_gpu(recipe):
    system, stream = cuda_system(recipe), pinned_batches()
    average = Average(system.generator)
    for index in range(3):  # the search for algorithms waits
        system.step(next(stream), index)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for index in range(3, 10):
            for name, optimiser in system.optimisers.items():
                set_learning_rate(optimiser, system.schedules[name](index))
            batch = next(stream)
            assert all(each.is_pinned() for each in batch)
            system.step(batch, index)
            average.update(system.generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_compiled_generator_learns_the_same():
    found = []
    for compile in (False, True):
        system, stream = cuda_system("edsr", compile=compile), pinned_batches()
        found.append([float(system.step(next(stream), index)["content"]) for index in range(20)])
    assert found[1] == pytest.approx(found[0], rel=0.03)
