"""From files to files: decode, tile, batch, engine, stitch, encode.

``inputs`` finds the images, ``tiles`` cuts and stitches them, ``stages`` takes one image through the engine,
``runner`` keeps the three stages busy at once, ``report`` says what happened, ``upscaler`` is what a user calls.
"""
