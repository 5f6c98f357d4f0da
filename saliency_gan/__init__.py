"""Saliency masks without labels, from the latent directions of a frozen GAN (after Voynov & Babenko 2020)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from saliency_gan.generators.zoo import load_generator
    from saliency_gan.results.directions import load_directions
    from saliency_gan.saliency.predictor import load_saliency_model

__all__ = ["load_directions", "load_generator", "load_saliency_model"]

_HOMES = {
    "load_directions": "saliency_gan.results.directions",
    "load_generator": "saliency_gan.generators.zoo",
    "load_saliency_model": "saliency_gan.saliency.predictor",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    """Imports what is public when it is first asked for, so that `import saliency_gan` is instant."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("saliency-gan")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
