"""Stage 1: interpretable directions of a frozen generator, and the one that clears the background."""
