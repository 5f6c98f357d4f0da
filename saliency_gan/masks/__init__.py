"""Stage 2: draws pairs of an image and a mask from a frozen generator and its background direction."""
