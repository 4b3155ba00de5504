"""The names of the precisions. Importing this module imports no torch."""

from __future__ import annotations

from typing import Literal, get_args

Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
EnginePrecision = Literal["fp32", "bf16", "fp16", "int8"]
"""What an engine may compute in. int8 is lossy and made from images, so that no spec asks for it as a precision."""
