"""The facts of a generator: a user's own need few, wrong ones are one line, and tiles are never guessed."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from gankit import models
from gankit.models import Facts
from gankit.models.tiling import settled

SMALL = {
    "cyclegan": {"channels": 4, "blocks": 1},
    "pix2pix": {"channels": 2, "downs": 3},
    "animegan": {"channels": 4, "blocks": 1},
    "cartoongan": {"channels": 4, "blocks": 1},
    "esrgan": {"channels": 4, "growth": 4, "blocks": 1},
}


def test_few_facts_are_enough():
    facts = Facts(task="upscale", scale=4, value_range=(0, 1))
    assert (facts.name, facts.paper, facts.channels, facts.multiple, facts.minimum) == ("custom", "", 3, 1, 1)
    assert (facts.value_range, facts.tileable, facts.options) == ((0.0, 1.0), None, {})
    assert facts.precisions == ("fp32", "bf16", "fp16")
    assert Facts(task="translate", value_range=[-1, 1]).value_range == (-1.0, 1.0)
    made = Facts(task="generate", value_range=(-1, 1), latent=100, output_size=[64, 48])
    assert made.output_size == (64, 48)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"task": "enlarge"}, "task must be 'upscale', 'translate' or 'generate', not 'enlarge'"),
        ({"name": ""}, "name must be"),
        ({"scale": 0}, "scale must be a whole number of at least 1, not 0"),
        ({"scale": 2.0}, "scale must be"),
        ({"scale": 2, "task": "translate"}, "scale must be 1 for task 'translate', not 2"),
        ({"channels": True}, "channels must be"),
        ({"out_channels": 0}, "out_channels must be"),
        ({"multiple": 0}, "multiple must be"),
        ({"minimum": -1}, "minimum must be"),
        ({"value_range": (1, 0)}, "value_range must be two finite numbers, the lower one first"),
        ({"value_range": (0, float("inf"))}, "value_range must be"),
        ({"value_range": 1}, "value_range must be"),
        ({"tileable": 1}, "tileable must be True, False or None, not 1"),
        ({"latent": 3}, "latent must be 0 for task 'upscale', not 3"),
        ({"classes": 3}, "classes must be 0"),
        ({"output_size": (3, 3)}, "output_size must be None"),
        ({"task": "generate"}, "latent must be a whole number of at least 1"),
        ({"task": "generate", "latent": 3}, "output_size must be a height and a width"),
        ({"task": "generate", "latent": 3, "output_size": (3, 0)}, "output_size must be"),
        ({"precisions": ("fp16",)}, "precisions must be some of 'fp32', 'bf16' or 'fp16', and 'fp32'"),
        ({"precisions": "fp32"}, "precisions must be"),
        ({"precisions": ("fp32", "fp8")}, "precisions must be"),
    ],
)
def test_wrong_facts_are_one_line(wrong, words):
    with pytest.raises(ValueError) as caught:
        Facts(**{"task": "upscale", "value_range": (0, 1), **wrong})
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(models.MODELS))
def test_built_in_models_state_what_the_trace_finds(name):
    facts = models.facts(name, SMALL.get(name))
    if facts.task == "generate":
        assert facts.tileable is None
        return
    with torch.device("meta"):
        net = models.build(name, SMALL.get(name))
    assert facts.tileable is (facts.task == "upscale" and name != "fast_srgan")
    assert settled(facts, net) is facts
    assert settled(replace(facts, tileable=None), net) == facts


def test_tiles_are_never_guessed():
    own = Facts(task="upscale", value_range=(0, 1))
    assert settled(own, nn.Sequential(nn.Conv2d(3, 3, 3, padding=1))).tileable is True
    assert settled(own, nn.Sequential(nn.Conv2d(3, 3, 1), nn.GroupNorm(1, 3))).tileable is False

    class Branching(nn.Module):
        def forward(self, x):
            return x if x.mean() > 0 else -x

    assert settled(own, Branching()).tileable is False
    assert settled(replace(own, tileable=True), Branching()).tileable is True


def test_no_torch_for_facts_and_options():
    code = (
        "import sys, gankit.models, gankit.models.facts, gankit.models.options, gankit.models.checks, "
        "gankit_export.precisions; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_one_precision():
    from gankit_export import precision, precisions

    from gankit import options
    from gankit.backends import base

    facts = sys.modules["gankit.models.facts"]  # the package has a function of this name
    assert facts.Precision is precisions.Precision is precision.Precision is base.Precision
    assert tuple(precision.DTYPES) == precisions.PRECISIONS
    assert ("auto", *precisions.PRECISIONS) == options.PRECISIONS
