"""The page on this computer on which photos are cut out and directions are moved along."""
