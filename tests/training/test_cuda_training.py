"""What training does on a GPU, as far as it can be seen without one."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import Dataset

from gankit.training import fabric, loader


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
