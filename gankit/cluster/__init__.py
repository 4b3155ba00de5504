"""Runs on a Ray cluster (``pip install 'gankit[ray]'``): the same job, done by an engine per GPU or group of cores.

This process finds the images, decides what to do and keeps the journal. Ray Data hands the tasks to a pool of workers,
which read the sources, run them and write the results, and return one report for each. Importing this package imports
neither Ray nor torch.
"""

from __future__ import annotations

from gankit.cluster.generate import write_samples_on_cluster
from gankit.cluster.run import run_on_cluster

__all__ = ["run_on_cluster", "write_samples_on_cluster"]
