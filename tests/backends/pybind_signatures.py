"""Hold calls against the signatures in the docstrings that pybind11 writes: names, number and types of arguments."""

import inspect
import re
from collections.abc import Callable
from functools import cache
from typing import Any


def _split(text: str) -> list[str]:
    """Split at the commas that are in no brackets."""
    parts, depth, current = [], 0, ""
    for letter in text:
        depth += (letter in "[(<") - (letter in "])>")
        if letter == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += letter
    return [part.strip() for part in (*parts, current) if part.strip()]


@cache
def signatures(doc: str) -> tuple[inspect.Signature, ...]:
    """The signatures in a docstring: the numbered ones of an overloaded function, or else its first line."""
    lines = doc.strip().splitlines()
    numbered = [re.sub(r"^\d+\. ", "", line) for line in lines if re.match(r"^\d+\. \w+\(", line)]
    found = []
    for line in numbered or lines[:1]:
        match = re.fullmatch(r"\w*\((.*)\) -> (.+)", line)
        if match is None:
            raise AssertionError(f"no signature: {line}")
        parameters = []
        for item in _split(match[1]):
            name, _, rest = item.partition(": ")
            annotation, given, default = rest.partition(" = ")
            parameters.append(
                inspect.Parameter(
                    name,
                    inspect.Parameter.POSITIONAL_OR_KEYWORD,
                    default=default if given else inspect.Parameter.empty,
                    annotation=annotation,
                )
            )
        found.append(inspect.Signature(parameters, return_annotation=match[2]))
    return tuple(found)


def bind(what: str, doc: str, is_a: Callable[[Any, str], bool], *args: Any, **kwargs: Any) -> inspect.Signature:
    """Return the first overload that accepts a call.

    Raises:
        TypeError: None does.
    """
    reasons = []
    for signature in signatures(doc):
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            reasons.append(str(error))
            continue
        wrong = [
            f"{name}={value!r} is no {signature.parameters[name].annotation}"
            for name, value in bound.arguments.items()
            if not fits(value, signature.parameters[name].annotation, is_a)
        ]
        if not wrong:
            return signature
        reasons += wrong
    raise TypeError(f"{what}: {'; '.join(reasons)}")


def fits(value: Any, annotation: str, is_a: Callable[[Any, str], bool]) -> bool:
    """Whether a value has the type of an annotation; ``is_a`` knows the classes of the binding."""
    short = re.split(r"\.|::", annotation.partition("[")[0])[-1]
    inner = annotation.partition("[")[2].removesuffix("]")
    if short in ("list", "List", "Sequence"):
        return isinstance(value, list | tuple) and all(fits(item, inner, is_a) for item in value)
    if short in ("SupportsInt", "int"):
        return isinstance(value, int) and not isinstance(value, bool)
    if short in ("Buffer", "buffer"):
        return isinstance(value, bytes | bytearray | memoryview) or is_a(value, "IHostMemory")
    plain = {"str": str, "bool": bool, "tuple": tuple, "None": type(None), "object": object}
    if short in plain:
        return isinstance(value, plain[short])
    if short == "Dims":
        return isinstance(value, tuple | list) and all(type(side) is int for side in value)
    return is_a(value, short)
