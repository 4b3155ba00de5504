"""The arguments of requests and the bodies of responses, which OpenAPI describes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gankit.models.facts import Direction, InputKind, Task
from gankit.models.sampling import SMALLEST_TRUNCATION
from gankit.pipeline.resize import Fit
from gankit.serving.formats import FormatName

_NAME = Field(None, max_length=200, description="Name of a model in /models. The default is that of the task.")
MOST_SAMPLES = 64


class OutputQuery(BaseModel):
    """What all requests for an image may say about the file."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: str | None = _NAME
    format: FormatName | None = Field(None, description="Format of the result. The default is what Accept asks for.")
    quality: int = Field(95, ge=1, le=100, description="JPEG and WebP quality.")


class ImageQuery(OutputQuery):
    """What requests that send an image may say."""

    strip_metadata: bool = Field(False, description="Leave out EXIF, XMP, IPTC, comments and PNG text.")
    mark_ai: bool = Field(False, description="State in the XMP metadata that a trained model edited the image.")
    mask_from: int | None = Field(None, ge=1, le=65535, description="Lowest value of a mask that is set.")


class UpscaleQuery(ImageQuery):
    """The arguments of ``/upscale``."""

    strength: float | None = Field(
        None, ge=0, le=1, description="0 (faithful) to 1 (sharp), rounded to twentieths, for srgan and srresnet."
    )
    scale: float | None = Field(None, gt=0, le=64, description="Enlarge by another factor than that of the model.")
    width: int | None = Field(None, ge=1, le=65535, description="Width of the result in pixels, in place of scale.")
    height: int | None = Field(None, ge=1, le=65535, description="Height of the result in pixels.")
    fit: Fit | None = Field(None, description="How an image of another shape fits width and height.")


class TranslateQuery(ImageQuery):
    """The arguments of ``/translate``."""

    direction: Direction | None = Field(None, description="Which generator of a pair to run. The default is AtoB.")


class GenerateQuery(OutputQuery):
    """The arguments of ``/generate``."""

    n: int = Field(16, ge=1, le=MOST_SAMPLES, description="Number of samples. Several make one sample grid.")
    seed: int = Field(0, ge=0, le=2**53 - 1, description="Random seed. The same seed gives the same image.")
    class_: int | None = Field(None, alias="class", ge=0, le=2**31, description="Class of all samples.")
    truncation: float | None = Field(
        None, ge=SMALLEST_TRUNCATION, le=100, description="Largest absolute value in a latent."
    )


class ModelInfo(BaseModel):
    """A model that is served."""

    name: str
    task: Task
    summary: str = Field(description="What it does, in a few words.")
    limits: str = Field(description="What it cannot do; empty if that is not known.")
    default: bool = Field(description="Whether requests that name no model run it.")
    scale: int = Field(description="Side of a result divided by side of its source.")
    strength: bool = Field(description="Whether requests may set a strength.")
    own_strength: float = Field(
        description="The strength at which the model is itself, where one may be set: 0 for the faithful one, "
        "1 for the sharp one."
    )
    directions: list[Direction] = Field(description="The generators of a pair; empty for a single one.")
    input_kind: InputKind = Field(description="What the values of the input mean.")
    classes: int = Field(description="Number of classes of a conditional generator, else 0.")


class ModelsResponse(BaseModel):
    """The models that are served, and the limits of requests."""

    models: list[ModelInfo]
    max_bytes: int = Field(description="Largest upload in bytes.")
    max_pixels: int = Field(description="Largest upload in pixels.")
    max_result_pixels: int = Field(description="Largest result in pixels.")
    version: str = Field(description="Version of gankit.")


class Health(BaseModel):
    """The state of the service."""

    status: Literal["ok", "draining", "failed"]
    in_flight: int = Field(description="Number of requests that are uploading, waiting, running or being encoded.")
    waiting: int = Field(description="Number of those that wait for the engine.")
