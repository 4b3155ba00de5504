"""A small network in a file, images in a folder of a store, and runs over them."""

import io

import numpy as np
import torch
from PIL import Image

import gankit
from gankit import checkpoints, models
from gankit.storage import run_remote


def save_weights(path, seed=0):
    """An SRGAN of one block that makes visible images."""
    torch.manual_seed(seed)
    options = {"blocks": 1, "channels": 8}
    net = models.build("srgan", options).eval()
    net.tail.bias.data.fill_(0.5)
    checkpoints.save(path, net.state_dict(), "srgan", options)
    return path


def png(seed, size=(9, 8)):
    content = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def upscaler(weights, lines=None, **keywords):
    notify = None if lines is None else lines.append
    return gankit.Upscaler(weights, backend="eager", precision="fp32", threads=1, notify=notify, **keywords)


def run(weights, inputs, output, lines=None, **options):
    with upscaler(weights, lines) as pipeline:
        report = run_remote(pipeline, [inputs] if isinstance(inputs, str) else inputs, output, **options)
    return report


def statuses(report):
    return {str(item.source).rpartition("/")[2]: item.again or item.status for item in report.images}
