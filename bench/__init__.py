"""The benchmarks and the tools that store their figures; not installed. ``pytest --benchmark-only`` runs them."""
