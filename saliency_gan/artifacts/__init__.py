"""What stages hand on, and where it is: directions, painters, bundled and exported weights."""
