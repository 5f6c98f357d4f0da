"""Computes the inputs of the rules of a run with the generator, h_bg and the units that vote, and applies the rules."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from saliency_gan.config import MasksConfig
from saliency_gan.generators.base import Generator
from saliency_gan.generators.units import watched
from saliency_gan.masks.rules import SHIFTS, Evidence, consensus, object_masks
from saliency_gan.results.directions import Directions
from saliency_gan.results.painters import Painters

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Masks:
    """Masks of a batch before cleaning.

    Attributes:
        chosen: bool [N, H, W], true on the object.
        by_rule: The masks of every rule in `MasksConfig.rules`, bool [rules, N, H, W].
    """

    chosen: Tensor
    by_rule: Tensor


class Masker:
    """Computes the inputs of the rules, and applies the rules.

    Args:
        config: The rules and their settings.
        generator: G, frozen, on fabric's device.
        directions: Directions with h_bg; None if `config.shifts` is false.
        painters: The units that vote; None if no rule needs units.
        fabric: Where and in which precision to compute.

    Attributes:
        shift: Magnitude of the shift; None if nothing is shifted.
        polarity: Whether h_bg turns the background bright or dark; None likewise.
    """

    def __init__(
        self,
        config: MasksConfig,
        generator: Generator,
        directions: Directions | None,
        painters: Painters | None,
        fabric: "Fabric",
    ) -> None:
        self.config, self.generator, self.painters, self._fabric = config, generator, painters, fabric
        self.shift, self.polarity = None, None
        self._offset = torch.zeros(generator.latent_dim)
        self._signs = {sign for rule in config.rules for sign in SHIFTS[rule]} | ({+1} if config.shifts else set())
        if directions:
            background = directions.background
            self.shift = background.shift if config.shift is None else config.shift
            self.polarity = background.polarity
            self._offset = (self.shift * directions.background_vector).to(fabric.device)

    @torch.inference_mode()
    def look(self, latents: Tensor, classes: Tensor) -> Evidence:
        """Computes only the inputs that the rules need.

        Args:
            latents: z, float [N, latent_dim], on any device.
            classes: c, int64 [N], likewise.
        """
        latents, classes = latents.to(self._fabric.device), classes.to(self._fabric.device)
        layers = self.painters.layers if self.painters else []
        plain, votes = None, None
        if layers or "lighting" in self.config.rules:
            with self._fabric.autocast(), watched(self.generator, layers) as features:
                plain = self.generator(latents, classes)
            votes = self.painters.votes(features, self.generator.resolution) if self.painters else None
        plus, minus = self._shifted(latents, classes, self._offset)
        return Evidence(plain, plus, minus, votes)

    @torch.inference_mode()
    def look_halfway(self, evidence: Evidence, latents: Tensor, classes: Tensor) -> Evidence:
        """Computes the inputs of the rules for half of the shift; those without a shift are taken from `evidence`."""
        latents, classes = latents.to(self._fabric.device), classes.to(self._fabric.device)
        plus, minus = self._shifted(latents, classes, self._offset / 2)
        return replace(evidence, plus=plus, minus=minus)

    @torch.inference_mode()
    def draw(self, latents: Tensor, classes: Tensor) -> Tensor:
        """Draws G(z, c), float [N, C, H, W] in [-1, 1]."""
        with self._fabric.autocast():
            return self.generator(latents.to(self._fabric.device), classes.to(self._fabric.device))

    def _shifted(self, latents: Tensor, classes: Tensor, offset: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The images at +offset and -offset; None for one that no rule needs."""
        with self._fabric.autocast():
            plus, minus = (
                self.generator(latents + sign * offset, classes) if sign in self._signs else None for sign in (+1, -1)
            )
        return plus, minus

    @property
    def device(self) -> torch.device:
        """Where the masks are computed."""
        return self._fabric.device

    @torch.inference_mode()
    def masks(self, evidence: Evidence) -> Masks:
        """Applies the rules."""
        config, polarity = self.config, self.polarity or "bright"
        by_rule = torch.stack(
            [object_masks(rule, evidence, config.theta, config.margin, polarity, config.votes) for rule in config.rules]
        )
        chosen = consensus(by_rule, config.quorum) if config.rule == "consensus" else by_rule[0]
        return Masks(chosen, by_rule)
