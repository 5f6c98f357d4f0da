"""People rate directions on a local page: MOS, the mean opinion score (Voynov & Babenko 2020, section 4)."""
