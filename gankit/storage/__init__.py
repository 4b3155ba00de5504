"""Images in stores: ``s3://``, ``gs://`` and all else that fsspec opens (``pip install 'gankit[remote]'``).

``urls`` tells URLs from paths, ``stores`` lists, reads and writes objects, ``journal`` keeps what made each result,
``plan`` decides what a run has to do, and ``work`` does it: objects are fetched to a temporary folder a few at a time,
run through the pipeline, and put to their place.

Importing this package imports neither fsspec nor torch.
"""

from __future__ import annotations

from gankit.storage.run import run_remote
from gankit.storage.urls import any_url, is_url

__all__ = ["any_url", "is_url", "run_remote"]
