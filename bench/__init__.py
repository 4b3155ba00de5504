"""The benchmarks and what stores their figures. Not installed: run ``pytest --benchmark-only`` in a checkout."""
