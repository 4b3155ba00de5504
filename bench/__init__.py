"""The benchmarks and the tools that store their figures. Not installed: run ``pytest --benchmark-only`` in a checkout."""
