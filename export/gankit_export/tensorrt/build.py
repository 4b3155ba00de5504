"""ONNX -> a serialized TensorRT engine ("plan")."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gankit_export.tensorrt.library import TensorRTError, collecting_logger, first_line, library
from gankit_export.tensorrt.profiles import Profile

Progress = Callable[[str, float], None]
"""Called with the name of the phase and the fraction of the whole build that is done."""


@dataclass(frozen=True)
class BuildSettings:
    """How an engine is built. The precision is in the types of the graph, and nowhere else.

    Attributes:
        tf32: whether fp32 convolutions may round their inputs to TF32, which has 11 bits. TensorRT allows it unless it
            is told not to.
        optimization_level: 0 to 5; more takes longer to build, and may be faster.
        workspace_bytes: limit for the scratch memory of a layer; 0 leaves TensorRT its default, all of the GPU.
    """

    tf32: bool = False
    optimization_level: int = 3
    workspace_bytes: int = 0


@dataclass(frozen=True)
class Built:
    """The result of a build.

    Attributes:
        plan: the serialized engine.
        timings: the serialized timing cache, with the timings of this build in it.
    """

    plan: bytes
    timings: bytes


def build(
    model: bytes,
    profiles: Sequence[Profile],
    settings: BuildSettings | None = None,
    *,
    path: Path | None = None,
    timings: bytes = b"",
    progress: Progress | None = None,
) -> Built:
    """Build an engine. This takes minutes and needs the GPU for which it is built.

    Args:
        model: the ONNX file.
        profiles: shapes of the inputs, at least one.
        settings: how to build it; ``None`` uses the defaults.
        path: where the file is, for weights beside it and for messages.
        timings: timing cache of an earlier build on the same machine, or nothing. One that does not belong to this
            machine or version is not used.
        progress: called from TensorRT's threads while the engine is built.

    Raises:
        TensorRTError: If TensorRT cannot be used, cannot read the file, or cannot build an engine. The message has
            TensorRT's reason and the names of the nodes.
        KeyboardInterrupt: If Ctrl-C stopped the build.
    """
    settings = settings or BuildSettings()
    trt = library()
    logger = collecting_logger(trt)
    try:
        builder = trt.Builder(logger)
    except (TypeError, RuntimeError) as error:  # pybind11: the factory function returned nothing
        raise TensorRTError(f"TensorRT finds no usable GPU: {logger.reason(first_line(error))}") from error
    # In TensorRT 11 every network is strongly typed and this flag has another value: take the enum, never a number.
    strong = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(strong)
    parser = trt.OnnxParser(network, logger)
    if not (parser.parse(model, str(path)) if path else parser.parse(model)):
        raise TensorRTError(f"TensorRT cannot read the model: {_parser_errors(parser, logger)}")
    config = builder.create_builder_config()
    config.builder_optimization_level = settings.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the inspector reports no types otherwise
    if settings.workspace_bytes:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_bytes)
    (config.set_flag if settings.tf32 else config.clear_flag)(trt.BuilderFlag.TF32)
    for profile in profiles:
        config.add_optimization_profile(_optimization_profile(builder, profile))
    cache = config.create_timing_cache(timings)
    if not config.set_timing_cache(cache, False):  # of another version or GPU: begin with an empty one
        config.set_timing_cache(config.create_timing_cache(b""), False)
    monitor = _monitor(trt, progress)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if monitor.cancelled:
        raise KeyboardInterrupt
    if plan is None:
        raise TensorRTError(f"TensorRT cannot build an engine: {logger.reason('it gives no reason')}")
    kept = config.get_timing_cache()
    return Built(bytes(plan), b"" if kept is None else bytes(kept.serialize()))


def _optimization_profile(builder: Any, profile: Profile) -> Any:
    result = builder.create_optimization_profile()
    for name, shapes in profile.inputs.items():
        try:
            result.set_shape(name, shapes.least, shapes.best, shapes.most)
        except ValueError as error:
            raise TensorRTError(f"TensorRT refuses the shapes {shapes} of '{name}': {first_line(error)}") from error
    return result


def _parser_errors(parser: Any, logger: Any) -> str:
    """Describe what the parser objects to, with the operator and the name of each node."""
    found = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        node = error.node_name() or error.node_operator()
        where = f"{error.node_operator()} '{node}': " if node else ""
        found.append(f"{where}{' '.join(error.desc().split())}")
    return "; ".join(dict.fromkeys(found)) or logger.reason("it gives no reason")


def _monitor(trt: Any, progress: Progress | None) -> Any:
    """Return a ``tensorrt.IProgressMonitor`` that reports the fraction of the build, and stops it after Ctrl-C."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Counts nested phases. TensorRT calls it from several threads."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.cancelled = False
            self._phases = Phases()
            self._lock = threading.Lock()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """A phase begins."""
            self._report(lambda: self._phases.start(phase_name, parent_phase, num_steps))

        def step_complete(self, phase_name: str, step: int) -> bool:
            """A step is done. Returning ``False`` stops the build."""
            self._report(lambda: self._phases.step(phase_name, step))
            return not self.cancelled

        def phase_finish(self, phase_name: str) -> None:
            """A phase is done."""
            self._report(lambda: self._phases.finish(phase_name))

        def _report(self, change: Callable[[], tuple[str, float]]) -> None:
            # An exception must not leave through TensorRT. Python delivers Ctrl-C here, while the build is running.
            try:
                with self._lock:
                    name, fraction = change()
                    if progress is not None:
                        progress(name, fraction)
            except KeyboardInterrupt:
                self.cancelled = True

    return Monitor()


class Phases:
    """The nested phases of a build, of which each step of an outer phase may be a phase of its own."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[str, int, int]] = {}
        self._furthest = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> tuple[str, float]:
        """Note that a phase has begun; see :meth:`_now`."""
        self._open[name] = (parent or "", max(1, steps), 0)
        return self._now(name)

    def step(self, name: str, step: int) -> tuple[str, float]:
        """Note that a step, counted from 0, is done."""
        parent, steps, _ = self._open.get(name, ("", 1, 0))
        self._open[name] = (parent, steps, min(steps, step + 1))
        return self._now(name)

    def finish(self, name: str) -> tuple[str, float]:
        """Note that a phase is done."""
        parent, _, _ = self._open.pop(name, ("", 1, 1))
        if not parent and not self._open:
            self._furthest = 1.0
        return self._now(parent or name)

    def _now(self, name: str) -> tuple[str, float]:
        """Return the phase and the fraction of the build that is done, which never decreases."""
        inside, fraction, at = 0.0, 0.0, name
        while at in self._open:
            parent, steps, done = self._open[at]
            fraction = min(1.0, (done + inside) / steps)
            inside, at = min(fraction, 0.999), parent
        self._furthest = max(self._furthest, fraction)
        return name, self._furthest
