"""Clips in and out: decode, run every frame through a pipeline, encode, and keep everything else of the file.

``files`` finds the clips of a run, and ``run`` processes one of them: ``decode`` gives its frames, ``encode`` makes
segments of them, ``segments`` keeps these while the job runs, and ``join`` puts them beside the sound, the subtitles
and the other parts of the source. FFmpeg does the work, through PyAV (``pip install 'gankit[video]'``).

Importing this package imports neither PyAV nor torch.
"""

from __future__ import annotations

from gankit.video.files import plan_files, run_files
from gankit.video.options import VIDEO_SUFFIXES, VideoOptions

__all__ = ["VIDEO_SUFFIXES", "VideoOptions", "plan_files", "run_files"]
