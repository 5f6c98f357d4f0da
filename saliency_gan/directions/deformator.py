"""A, the matrix of latent directions (Voynov & Babenko 2020, section 3.1)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from saliency_gan.errors import UserError

DeformatorKind = Literal["orthonormal", "unit", "linear", "coordinate", "random"]
FIXED_KINDS: tuple[DeformatorKind, ...] = ("coordinate", "random")
"""The baselines, which are not trained."""


class Deformator(nn.Module):
    """A, whose column k is direction k; turns (k, eps) into the latent shift A (eps e_k).

    Args:
        kind: orthonormal (columns orthogonal and of unit length), unit (unit length), linear (free), or fixed:
            coordinate (the first K latent axes) and random (random orthonormal columns).
        latent_dim: d, the number of rows.
        count: K, the number of directions.
        random: Random generator that the first A is drawn from.

    Raises:
        UserError: If K is not positive, or larger than latent_dim where the columns are orthogonal to each other.
    """

    def __init__(self, kind: DeformatorKind, latent_dim: int, count: int, random: torch.Generator) -> None:
        super().__init__()
        if count < 1:
            raise UserError(f"K = {count} directions were asked for, but at least one is needed: raise --K.")
        if count > latent_dim and kind not in ("unit", "linear"):
            raise UserError(
                f"K = {count} {kind} directions do not fit into {latent_dim} latent dimensions:"
                f" use --K {latent_dim} or fewer, or --deformator unit."
            )
        self.kind = kind
        if kind == "coordinate":
            start = torch.eye(latent_dim, count)
        elif kind in ("orthonormal", "random"):
            start = nn.init.orthogonal_(torch.empty(latent_dim, count), generator=random)
        else:
            start = F.normalize(torch.randn(latent_dim, count, generator=random), dim=0)
        self.weight = nn.Parameter(start, requires_grad=kind not in FIXED_KINDS)
        if kind == "orthonormal":
            # The Cayley map costs a sixth of the matrix exponential at d = 120 and is as exact.
            # `orthogonal` extends A to a square matrix with numbers from torch's global random generator.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(torch.randint(2**62, (), generator=random)))
                orthogonal(self, "weight", orthogonal_map="cayley")

    @property
    def matrix(self) -> Tensor:
        """A, float32 [latent_dim, K], even under automatic mixed precision."""
        with torch.autocast(self.device.type, enabled=False):
            return F.normalize(self.weight, dim=0) if self.kind == "unit" else self.weight

    @property
    def device(self) -> torch.device:
        """Where A is stored."""
        return next(self.parameters()).device

    def forward(self, directions: Tensor, shifts: Tensor) -> Tensor:
        """Latent shifts A (eps e_k).

        Args:
            directions: k, int64 [N], each in [0, K).
            shifts: eps, float [N].

        Returns:
            float32 [N, latent_dim].
        """
        return shifts[:, None] * self.matrix.T[directions]
