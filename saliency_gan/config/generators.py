"""Settings of `generators`."""

from dataclasses import dataclass

from saliency_gan.config.stage import Settings


@dataclass(frozen=True, kw_only=True)
class GeneratorsConfig(Settings):
    """Lists the available generators: size, K, licence, preset, and whether the weights are on this machine.

    Args:
        json: Print JSON, with the addresses of the weights, instead of a table.
        free: List only generators whose weights may be used for any purpose.
    """

    json: bool = False
    free: bool = False
