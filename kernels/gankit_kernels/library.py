"""How an operation becomes one of torch's: a schema, a CPU and a CUDA implementation, shapes and a gradient."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

_LIBRARY = torch.library.Library("gankit", "FRAGMENT")
# A result has the layout of its source, so Inductor must not pass the source in another one.
_TAGS = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides)


def register(
    schema: str,
    spec: type,
    *,
    reference: Callable[..., Any],
    on_cuda: Callable[..., Any],
    empty: Callable[..., Any],
    setup: Callable[..., None] | None = None,
    backward: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """Define an operation ``gankit::…``.

    The implementations take the operation's tensors and one ``spec``. A torch schema knows no such type, so the fields
    of the spec are the keyword-only arguments of the operation: call it with ``operation(*tensors, **vars(spec))``.

    This uses ``Library.define`` and ``impl`` rather than ``torch.library.custom_op``, because a call then costs 3 µs
    instead of 12, and kernels take less than 10.

    Args:
        schema: Name, arguments and result in the language of torch's schemas; tensors, ``*``, the fields of ``spec``.
        spec: Frozen dataclass of everything about a call that is no tensor.
        reference: Runs on every device except CUDA, below autograd: ``reference(*tensors, spec)``.
        on_cuda: Runs on CUDA, below autograd; the same arguments.
        empty: Makes an empty result of the right shape, dtype and strides; the same arguments.
        setup: Saves what the gradient needs: ``setup(ctx, tensors, spec)``.
        backward: The gradient in torch's own differentiable operations, ``backward(ctx, gradient)``, with one result
            per tensor; ``None`` for an operation without a gradient.

    Returns:
        The operation.
    """

    def with_spec(implementation: Callable[..., Any]) -> Callable[..., Any]:
        def run(*tensors: Any, **fields: Any) -> Any:
            return implementation(*tensors, spec(**fields))

        return run

    def context(ctx: Any, inputs: tuple[Any, ...], keyword_only_inputs: dict[str, Any], output: Any) -> None:
        if setup is not None:
            setup(ctx, inputs, spec(**keyword_only_inputs))

    name = schema.partition("(")[0]
    _LIBRARY.define(schema, tags=_TAGS)
    _LIBRARY.impl(name, with_spec(reference), "CompositeExplicitAutograd")
    _LIBRARY.impl(name, with_spec(on_cuda), "CUDA")
    torch.library.register_fake(f"gankit::{name}", with_spec(empty), lib=_LIBRARY)
    if backward is not None:
        torch.library.register_autograd(f"gankit::{name}", backward, setup_context=context, lib=_LIBRARY)
    operation: Callable[..., Any] = getattr(torch.ops.gankit, name).default
    return operation


def exporting() -> bool:
    """Whether torch is capturing a graph for another runtime, which knows torch's operations but not these."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export() or tracing


@cache
def has_triton() -> bool:
    """Whether Triton is installed. Without it the references run on CUDA too."""
    return find_spec("triton") is not None
