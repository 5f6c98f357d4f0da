"""A, which turns a direction and a shift into a latent shift: a matrix of directions, or a small network.

Voynov & Babenko 2020, section 3.1.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from saliency_gan.config.discover import DeformatorKind
from saliency_gan.errors import UserError

FIXED_KINDS: tuple[DeformatorKind, ...] = ("coordinate", "random")
"""The baselines, which are not trained."""
MLP_WIDTH = 1024


class Deformator(nn.Module):
    """A, whose column k is direction k; turns (k, eps) into the latent shift A (eps e_k).

    Args:
        kind: orthonormal (columns orthogonal and of unit length), unit (unit length), linear (free), mlp (a network, so
            every direction is a curve), or fixed: coordinate (the first K latent axes) and random (random orthonormal
            columns).
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
        if count > latent_dim and kind not in ("unit", "linear", "mlp"):
            raise UserError(
                f"K = {count} {kind} directions do not fit into {latent_dim} latent dimensions:"
                f" use --K {latent_dim} or fewer, or --deformator unit."
            )
        self.kind, self.count = kind, count
        if kind == "mlp":
            with _seeded(random):
                self.network = CurvedShift(count, latent_dim)
            return
        if kind == "coordinate":
            start = torch.eye(latent_dim, count)
        elif kind in ("orthonormal", "random"):
            start = nn.init.orthogonal_(torch.empty(latent_dim, count), generator=random)
        else:
            start = F.normalize(torch.randn(latent_dim, count, generator=random), dim=0)
        self.weight = nn.Parameter(start, requires_grad=kind not in FIXED_KINDS)
        if kind == "orthonormal":
            # The Cayley map costs a sixth of the matrix exponential at d = 120 and is as exact.
            # `orthogonal` extends A to a square matrix with random numbers.
            with _seeded(random):
                orthogonal(self, "weight", orthogonal_map="cayley")

    @torch.no_grad()
    def start_from(self, matrix: Tensor) -> None:
        """Lets A continue from another one.

        Args:
            matrix: Float [latent_dim, K], with columns of this kind.

        Raises:
            UserError: If the columns are of another kind, for example not orthonormal.
        """
        if self.kind == "orthonormal":
            self.weight = matrix  # type: ignore[assignment]  # through the parametrisation
        else:
            self.weight.copy_(matrix)
        if not torch.allclose(self.matrix, matrix, atol=1e-4):
            raise UserError(f"The columns of A in --start are not {self.kind}: give the --deformator of that run.")

    @property
    def matrix(self) -> Tensor:
        """A, float32 [latent_dim, K], even under automatic mixed precision.

        Of a network, column k is the mean slope of curve k between eps = -1 and 1.
        """
        if self.kind == "mlp":
            every, one = torch.arange(self.count, device=self.device), torch.ones(self.count, device=self.device)
            return (self(every, one) - self(every, -one)).T / 2
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
        if self.kind == "mlp":
            with torch.autocast(self.device.type, enabled=False):
                return self.network(shifts[:, None] * F.one_hot(directions, self.count))
        return shifts[:, None] * self.matrix.T[directions]


class CurvedShift(nn.Module):
    """The network of the authors' public code: eps e_k [N, K] -> latent shift [N, latent_dim], both float32.

    Each of three hidden layers also sees the sum of the linear parts of all layers before it. The network's result is
    added to eps on the k-th latent axis.
    """

    def __init__(self, count: int, latent_dim: int) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(inputs, MLP_WIDTH) for inputs in (count, MLP_WIDTH, MLP_WIDTH))
        self.norms = nn.ModuleList(nn.BatchNorm1d(MLP_WIDTH) for _ in self.linears)
        self.last = nn.Linear(MLP_WIDTH, latent_dim)
        self.axes: Tensor
        self.register_buffer("axes", torch.eye(count, latent_dim), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Shifts along the curves."""
        features, total = inputs, torch.zeros(())
        for linear, norm in zip(self.linears, self.norms, strict=True):
            total = total + linear(features)
            features = F.elu(norm(total))
        return self.last(features) + inputs @ self.axes


@contextmanager
def _seeded(random: torch.Generator) -> Iterator[None]:
    """Lets torch's global random generator continue from `random`, and restores it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=random)))
        yield
