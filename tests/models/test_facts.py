"""The facts of a generator: a user's own need few, wrong ones are one line, and tiles are never guessed."""

import subprocess
import sys

import pytest
import torch
from gankit_export.calls import WholeImageError
from gankit_export.receptive_field import halo

from gankit import models
from gankit.models import Facts

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
    try:
        halo(net)
    except WholeImageError:
        assert not facts.tileable
    else:
        assert facts.tileable or facts.task == "translate"  # hundreds of pixels of halo are as good as the whole image


def test_no_torch_for_facts_and_options():
    code = (
        "import sys, gankit.models, gankit.models.facts, gankit.models.options, gankit.models.checks, "
        "gankit_export.precisions; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_one_precision():
    from gankit_export import precision, precisions

    from gankit import options

    assert tuple(precision.DTYPES) == precisions.PRECISIONS
    assert ("auto", *precisions.PRECISIONS, "int8") == options.PRECISIONS
