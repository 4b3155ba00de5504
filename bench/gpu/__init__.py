"""The steps of :mod:`bench.gpu_day`: one file each, with a function ``run(device, report)``."""
