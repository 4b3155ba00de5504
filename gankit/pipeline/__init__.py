"""From files to files: decode, tile, batch, engine, stitch, encode.

``inputs`` finds the images, ``tiles`` cuts and stitches them, and ``processor`` runs one image through the engine.
``runner`` decodes, computes and encodes at the same time, and ``report`` describes what happened. Users call
``upscaler``, ``translator`` and ``sampler``.
"""
