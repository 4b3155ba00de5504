"""Exact rewrites of generators: ``nn.Module -> nn.Module`` (a ``torch.fx.GraphModule``), same fp32 output to 1e-5.

:func:`for_inference` is all of them in order. Each rewrite traces symbolically and so keeps any input size.
"""

from gankit_export.rewrites.graph import (
    fold_batch_norm,
    fold_factors,
    for_inference,
    shared_prelu_to_leaky,
    sink_last_shuffle,
)
from gankit_export.rewrites.sink_shuffle import sink, sink_bias, sink_weight
from gankit_export.tracing import trace

__all__ = [
    "fold_batch_norm",
    "fold_factors",
    "for_inference",
    "shared_prelu_to_leaky",
    "sink",
    "sink_bias",
    "sink_last_shuffle",
    "sink_weight",
    "trace",
]
