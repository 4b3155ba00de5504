"""From files to files: decode, tile, batch, engine, stitch, encode.

``inputs`` finds the pictures, ``tiles`` cuts and stitches them, ``stages`` takes one picture through the engine,
``runner`` keeps the three stages busy at once, ``report`` says what happened, ``upscaler`` is what a user calls.
"""
