"""The place of Triton kernels for what GAN generators do between convolutions; it holds none yet."""
