"""Animations and multi-page files: read frame by frame, and written as APNG, WebP, GIF, AVIF and TIFF.

At most three decoded frames are in memory at a time, some more in the encoder of AVIF, and all frames of an AVIF of 10
or 12 bits, as far as they take little. Reading resolves offsets,
blending and disposal, so that each frame is what a viewer shows at that time.
"""

from gankit.images.frames.facts import NOTE_STARTS, FrameFacts, Kind, kind_of
from gankit.images.frames.reading import distinct_frames, probe
from gankit.images.frames.writing import TITLES, FrameWriter, format_for, frame_writer, frames_held

__all__ = [
    "NOTE_STARTS",
    "TITLES",
    "FrameFacts",
    "FrameWriter",
    "Kind",
    "distinct_frames",
    "format_for",
    "frame_writer",
    "frames_held",
    "kind_of",
    "probe",
]
