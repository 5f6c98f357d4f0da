"""Builds generators of the families that `train-gan` trains, either from settings or from a saved description."""

from collections.abc import Mapping
from typing import Any

from saliency_gan.config import TrainGanConfig
from saliency_gan.generators.biggan import BigGAN, BigGANArchitecture
from saliency_gan.generators.eigengan import EigenGAN, EigenGANArchitecture
from saliency_gan.generators.sngan import SNGAN, SNGANArchitecture

TrainedGenerator = BigGAN | SNGAN | EigenGAN


def new_generator(config: TrainGanConfig, class_names: tuple[str, ...]) -> TrainedGenerator:
    """Builds a generator with the sizes in `config`; its weights are not yet initialised."""
    if config.family == "sngan":
        return SNGAN(
            SNGANArchitecture(config.resolution, config.latent_dim, config.channels, config.image_channels),
            "trained",
            class_names,
        )
    if config.family == "eigengan":
        sizes = EigenGANArchitecture(
            resolution=config.resolution,
            noise_dim=config.latent_dim,
            subspace_dim=config.subspace_dim,
            num_classes=len(class_names),
            embedding_dim=config.embedding_dim,
            channels=config.channels,
        )
        return EigenGAN(sizes, "trained", class_names)
    architecture = BigGANArchitecture(
        resolution=config.resolution,
        latent_dim=config.latent_dim,
        num_classes=len(class_names),
        embedding_dim=config.embedding_dim,
        channels=config.channels,
        attention_at=config.attention_at,
    )
    return BigGAN(architecture, "trained", class_names)


def generator_of(description: Mapping[str, Any], name: str) -> TrainedGenerator:
    """Builds a generator, without its weights, from the result of `metadata()`.

    Raises:
        LookupError, TypeError, ValueError, UserError: If the description is malformed or of an unknown family.
    """
    sizes = dict(description["architecture"])
    sizes["channels"] = tuple(sizes["channels"])
    class_names = tuple(description["class_names"])
    if description["family"] == "sngan":
        return SNGAN(SNGANArchitecture(**sizes), name, class_names)
    if description["family"] == "eigengan":
        return EigenGAN(EigenGANArchitecture(**sizes), name, class_names)
    if description["family"] == "biggan":
        return BigGAN(BigGANArchitecture(**sizes), name, class_names)
    raise ValueError(f"{description['family']!r} is no family")
