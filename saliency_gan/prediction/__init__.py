"""`predict`: finds the files, predicts and refines their maps, and writes pictures and videos."""
