"""The Triton kernels and their launches. Importing a module of this package imports Triton.

Every launch also accepts CPU tensors under Triton's interpreter, which is how the tests run the kernels.
"""
