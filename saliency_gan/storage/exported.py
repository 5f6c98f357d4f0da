"""Path of the bundled saliency model's export; imports no heavy library."""

from pathlib import Path

from saliency_gan.storage.bundled import bundled_folder
from saliency_gan.storage.files import cache_folder, sha256_of


def exported_file() -> Path:
    """Default path, in the cache, of the export of the bundled model; other weights give another name."""
    weights = bundled_folder("saliency") / "model.safetensors"
    version = sha256_of(weights)[:12] if weights.exists() else "none"
    return cache_folder() / "exports" / f"saliency-{version}.onnx"
