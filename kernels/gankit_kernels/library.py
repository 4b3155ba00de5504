"""How an operation becomes one of torch's: a schema, a CPU and a CUDA implementation, shapes, a gradient."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

_LIBRARY = torch.library.Library("gankit", "FRAGMENT")
# The layout of a result is that of its source, so Inductor must not hand the source over in another one.
_TAGS = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides)


def register(
    schema: str,
    *,
    reference: Callable[..., Any],
    on_cuda: Callable[..., Any],
    shapes: Callable[..., Any],
    setup: Callable[..., None] | None = None,
    backward: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """Define ``gankit::…``.

    ``Library.define`` and ``impl``, not ``torch.library.custom_op``: a call costs 3 µs in place of 12, and kernels
    take less than 10.

    Args:
        schema: name, arguments and result in the words of torch's schemas.
        reference: what runs on every device but CUDA, below autograd.
        on_cuda: what runs on CUDA, below autograd.
        shapes: makes an empty result from the same arguments, of the right shape, dtype and strides.
        setup: keeps what the gradient needs; see :func:`torch.library.register_autograd`.
        backward: the gradient, in torch's own differentiable operations; ``None`` for an operation that has none.

    Returns:
        The operation, to be called.
    """
    name = schema.partition("(")[0]
    _LIBRARY.define(schema, tags=_TAGS)
    _LIBRARY.impl(name, reference, "CompositeExplicitAutograd")
    _LIBRARY.impl(name, on_cuda, "CUDA")
    torch.library.register_fake(f"gankit::{name}", shapes, lib=_LIBRARY)
    if backward is not None:
        torch.library.register_autograd(f"gankit::{name}", backward, setup_context=setup, lib=_LIBRARY)
    operation: Callable[..., Any] = getattr(torch.ops.gankit, name).default
    return operation


def exporting() -> bool:
    """Whether a graph is being taken for another runtime, which knows torch's operations but not these."""
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export() or torch.jit.is_tracing()


@cache
def has_triton() -> bool:
    """Whether the kernels can be built here at all; without Triton the reference also runs on CUDA."""
    return find_spec("triton") is not None
