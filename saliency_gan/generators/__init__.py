"""Frozen generators G(z, c), one file per family. All of them implement `base.Generator`."""
