"""Stage 3 and beyond: trains a saliency model on generated pairs, and then on its own marks of photos."""
