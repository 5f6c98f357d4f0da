"""Where the bundled saliency model's export is; imports nothing heavy."""

from pathlib import Path

from saliency_gan.storage.bundled import bundled_folder
from saliency_gan.storage.files import cache_folder, sha256_of


def exported_file() -> Path:
    """Where `export` puts the bundled model by default, in the cache; a model of another release has another name."""
    weights = bundled_folder("saliency") / "model.safetensors"
    version = sha256_of(weights)[:12] if weights.exists() else "none"
    return cache_folder() / "exports" / f"saliency-{version}.onnx"
