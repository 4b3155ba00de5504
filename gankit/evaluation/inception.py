"""The Inception network of FID, by torch-fidelity, with weights that the user has."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gankit.checkpoints import read
from gankit.errors import BackendError, CheckpointError
from gankit.evaluation.features import FeatureNetwork

_HOW = "pip install 'gankit[perceptual]'"
_SIDE = 299


def open_inception(weights: Path) -> FeatureNetwork:
    """Inception v3 as TensorFlow published it in 2015, the network of FID, KID and IS; 2048 features.

    It resizes to 299×299 within, bilinearly and without antialiasing, as TensorFlow 1 did: published figures rest on
    that.

    Args:
        weights: ``weights-inception-2015-12-05-6726825d.pth`` of torch-fidelity's release v0.2.0 on GitHub.

    Raises:
        BackendError: torch-fidelity (or the torchvision that it wants) is not installed, or broken.
        CheckpointError: the file is missing, broken, or holds other weights.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise BackendError(f"FID, KID and IS need torch-fidelity ({error}): {_HOW}") from error
    except Exception as error:  # a torchvision of another torch fails in its own ways
        reason = str(error).splitlines()[0]
        raise BackendError(f"FID, KID and IS: torch-fidelity is installed but broken ({reason}): {_HOW}") from error
    tensors = dict(read(weights).tensors)  # safely; torch-fidelity itself would run code that a file may hold
    with tempfile.TemporaryDirectory(prefix="gankit-") as folder:
        clean = Path(folder) / "inception.pth"
        torch.save(tensors, clean)
        try:
            net: Any = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], str(clean))
        except (RuntimeError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{weights}: is not the Inception network of FID: {reason}") from error

    def run(x: Tensor) -> tuple[Tensor, Tensor | None]:
        features, logits = net((x * 255).round().byte())
        return features, logits

    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    resize = f"bilinear to {_SIDE}×{_SIDE} without antialiasing, as TensorFlow 1"
    return FeatureNetwork("Inception v3 (2015-12-05)", run, None, 3, "", sha256, inception=True, own_resize=resize)
