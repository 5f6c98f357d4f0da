"""Frozen generators G(z, c), one family a file, behind the contract of `base.Generator`."""
