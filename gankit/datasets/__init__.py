"""Images from disk, for training and evaluation alike: IDX files, folders, pairs; and the patches cut from them.

``idx``, ``folders``, ``pairs``, ``holdout`` and ``pixels`` import no torch. ``patches``, ``crops`` and ``whole_images``
are torch data sets: which sample is item ``i`` depends on the seed and ``i`` alone.
"""
