"""The exact halo of a generator; see :mod:`gankit_export.receptive_field`."""

from gankit_export.receptive_field import halo

__all__ = ["halo"]
