"""`predict`: which files, their maps, refined edges, pictures and videos."""
