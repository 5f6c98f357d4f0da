"""What `predict` makes of a saliency map: names, refined edges, pictures and videos."""
