"""Running networks in strips, for tests."""

import torch
from gankit_export.rewrites import for_inference

from gankit.backends.cpu.layerwise import Layerwise
from gankit.backends.cpu.streaming import Stream


def streamed(net, x, strip_bytes=1):
    """In strips, after another image that must leave nothing behind."""
    stream, rows = Stream(for_inference(net), strip_bytes), []
    with torch.inference_mode():
        stream.run(torch.rand_like(x), lambda part: part, lambda part, row: None)
        stream.run(x, lambda part: part, lambda part, row: rows.append(part.clone()))
    return torch.cat(rows, dim=2)


def layerwise(net, x, max_bytes=1 << 30, strip_bytes=1):
    """Layer by layer, in strips of a few rows."""
    rows = []
    with torch.inference_mode():
        Layerwise(for_inference(net), max_bytes, strip_bytes).run(x, lambda part, row: rows.append(part.clone()))
    return torch.cat(rows, dim=2)
