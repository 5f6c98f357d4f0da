"""Stage 2: pairs of an image and a mask, drawn from a frozen generator and its background direction."""
