"""Kernels for what GAN generators do between convolutions."""
