"""Stage 3: a saliency model, trained on synthetic pairs and adapted to photos, and its saliency maps."""
