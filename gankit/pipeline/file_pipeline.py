"""What a run over files needs of a pipeline, whatever makes the results. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from gankit.options import EngineOptions
from gankit.pipeline.inputs import Inputs
from gankit.pipeline.items import Progress
from gankit.pipeline.records import Records
from gankit.pipeline.report import EngineReport, ImageReport, ModelReport, Report, Waits
from gankit.pipeline.resume import Resume
from gankit.pipeline.run_options import RunOptions
from gankit.pipeline.targets import Job


class FileEngines(Protocol):
    """The model of a pipeline and its engines."""

    def options_of_results(self) -> Mapping[str, Any]:
        """Return the options that determine the pixels of a result and are not at their defaults, as in JSON."""

    def weights_sha256(self) -> str:
        """Return the sha256 of the weights, hexadecimal."""

    def report(self) -> EngineReport | None:
        """Describe the engine that ran; ``None`` if none did."""

    def exact_report(self) -> EngineReport | None:
        """Describe the engine for images of more than 8 bits, if it was another one."""

    def model_report(self) -> ModelReport | None:
        """Describe the weights; ``None`` if none were loaded."""


class FilePipeline(Protocol):
    """Makes one result from each image: a :class:`~gankit.pipeline.images.ImagePipeline`, or a reconstructor.

    Attributes:
        takes_clips: whether it makes clips from clips, and is an ``ImagePipeline`` then.
        engine: the engine options.
        notify: called with each line to report to the user.
        report: the report of the last run.
    """

    takes_clips: ClassVar[bool]
    engine: EngineOptions
    notify: Callable[[str], None] | None
    report: Report | None

    @property
    def engines(self) -> FileEngines:
        """The model and its engines."""

    def mark(self, chosen: RunOptions) -> str:
        """Return the text that is added to the name of a source if there is no output folder."""

    def report_of(self, records: Records, found: Inputs, seconds: float) -> Report:
        """Return the report of a run."""

    def process(
        self,
        jobs: Sequence[Job],
        options: RunOptions,
        resume: Resume,
        *,
        record: Callable[[ImageReport], None],
        progress: Callable[[Progress], None] | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> Waits:
        """Run jobs whose targets are decided; see :func:`gankit.pipeline.job_run.process`."""
