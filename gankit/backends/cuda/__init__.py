"""Support for CUDA GPUs in the backends eager and compile."""
