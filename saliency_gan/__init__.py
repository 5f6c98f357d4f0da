"""Saliency masks without labels, from the latent directions of a frozen GAN (after Voynov & Babenko 2020)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saliency_gan.saliency.predictor import load_saliency_model

__all__ = ["load_saliency_model"]


def __getattr__(name: str) -> Any:
    """Imports what is public when it is first asked for, so that `import saliency_gan` is instant."""
    if name in __all__:
        from saliency_gan.saliency import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
