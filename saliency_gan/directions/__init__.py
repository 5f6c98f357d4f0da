"""Stage 1: interpretable directions in the latent space of a frozen generator, and the one that clears the background."""
