"""Settings of `generators`."""

from dataclasses import dataclass

from saliency_gan.config.stage import Settings


@dataclass(frozen=True, kw_only=True)
class GeneratorsConfig(Settings):
    """Lists the generators that can be named: size, K, licence, preset, and whether the weights are here.

    Args:
        json: Print JSON, with the addresses of the weights, instead of a table.
    """

    json: bool = False
