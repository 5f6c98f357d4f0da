"""Files that are written atomically, locks, and the paths of a run's files."""
