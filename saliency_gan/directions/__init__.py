"""Stage 1: interpretable directions of a frozen generator, and the direction that clears the background."""
