"""Kernels for processors, compiled by LLVM when they are first used. llvmlite is imported then and not before."""
