"""The saliency model: its network, the maps that it computes of photos, and its export."""
