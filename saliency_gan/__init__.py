"""Saliency masks without labels, from the latent directions of a frozen GAN (after Voynov & Babenko 2020)."""
