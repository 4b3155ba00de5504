"""Figures of generated images against a reference set, under names that say whose features they rest on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gankit.evaluation.distances import agreement, classifier_score, frechet_distance, kernel_distance
from gankit.evaluation.features import FeatureNetwork, Features


@dataclass(frozen=True)
class SampleNames:
    """What the figures are called; FID, KID and IS are Inception's alone."""

    frechet: str
    kernel: str
    score: str

    @classmethod
    def of(cls, network: FeatureNetwork) -> SampleNames:
        """The names for a network's features."""
        if network.inception:
            return cls("FID", "KID", "Inception score")
        return cls("Fréchet distance", "kernel distance", "classifier score")

    def key(self, which: str) -> str:
        """A name as a key of JSON: ``"fid"``, ``"frechet_distance"``."""
        name: str = getattr(self, which)
        return name.lower().replace("é", "e").replace(" ", "_")


@dataclass(frozen=True)
class SampleScore:
    """Figures of one set of samples.

    Attributes:
        n: samples.
        resize: how they were brought to the network's size.
        frechet: see :func:`gankit.evaluation.distances.frechet_distance`.
        kernel: mean and standard deviation, see :func:`gankit.evaluation.distances.kernel_distance`.
        score: mean and standard deviation, see :func:`gankit.evaluation.distances.classifier_score`; ``None`` where
            the network tells no classes.
        agreement: the part of samples in which the network sees the class that was asked for; ``None`` where none was.
        by_class: the same of each class.
    """

    n: int
    resize: str
    frechet: float
    kernel: tuple[float, float]
    score: tuple[float, float] | None
    agreement: float | None
    by_class: tuple[float | None, ...] | None

    def as_dict(self, names: SampleNames) -> dict[str, Any]:
        """Plain values for JSON, under the names of the network."""
        found: dict[str, Any] = {"n": self.n, "resize": self.resize, names.key("frechet"): self.frechet}
        for which, value in (("kernel", self.kernel), ("score", self.score)):
            if value is not None:
                found |= {names.key(which): value[0], f"{names.key(which)}_deviation": value[1]}
        if self.agreement is not None and self.by_class is not None:
            found |= {"class_agreement": self.agreement, "class_agreement_by_class": list(self.by_class)}
        return found


def measure_samples(samples: Features, reference: Features, asked: NDArray[np.int64] | None = None) -> SampleScore:
    """Measure samples against a reference set.

    Args:
        samples: their features.
        reference: those of the real images, of the same network.
        asked: (N,) the class that was asked for in each sample; ``None`` where none was, and ignored where the network
            tells no classes.

    Raises:
        UsageError: fewer than two images on a side.
        BackendError: torchmetrics is not installed.
    """
    logits = samples.logits
    agreed, by_class = (None, None) if asked is None or logits is None else agreement(logits, asked)
    return SampleScore(
        len(samples),
        samples.resize,
        frechet_distance(reference.values, samples.values),
        kernel_distance(reference.values, samples.values),
        None if logits is None else classifier_score(logits),
        agreed,
        by_class,
    )
