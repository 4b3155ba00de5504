"""The kernels and their launches. Importing a module of this package imports Triton.

Every launch also takes CPU tensors in Triton's interpreter, which is how the tests run them.
"""
