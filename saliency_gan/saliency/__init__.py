"""Stage 3: a saliency model trained on synthetic pairs, adapted to photos, and used."""
