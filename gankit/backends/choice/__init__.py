"""The measured choice of a backend: candidates, benchmark, cache, environment, select."""
