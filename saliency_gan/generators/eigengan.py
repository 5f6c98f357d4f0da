"""The EigenGAN family (He, Kan, Shan, ICCV 2021): every upsampling layer adds a point of a small linear subspace.

Layer i turns its input h_i into h_i + U_i diag(L_i) z_i + mu_i before it upsamples: U_i holds q orthonormal vectors as
large as h_i, L_i says how much each of them contributes, and mu_i is the origin of the subspace. So each of the q
numbers of z_i is already a direction, and needs no discovery.

Two things differ from the paper. The layers are SN-GAN's residual blocks, with batch norm. A class embedding may be
concatenated to the noise at the first layer.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saliency_gan.errors import UserError
from saliency_gan.generators.base import Generator
from saliency_gan.generators.sngan import UpsamplingBlock, initialise_glorot, require_resolution


@dataclass(frozen=True)
class EigenGANArchitecture:
    """The sizes that are needed to build a generator before its weights are read.

    Attributes:
        resolution: Output side in pixels; 4 * 2^(number of layers).
        noise_dim: Length of the noise that enters at 4 px and is not meant to be interpreted.
        subspace_dim: q, the number of dimensions of every layer.
        num_classes: Number of classes; 1 for an unconditional generator.
        embedding_dim: Length of the class embedding that is concatenated to the noise; 0 for an unconditional
            generator.
        channels: Channels at 4 px and after every layer, so one number more than layers.
    """

    resolution: int = 64
    noise_dim: int = 128
    subspace_dim: int = 6
    num_classes: int = 1
    embedding_dim: int = 0
    channels: tuple[int, ...] = (256, 128, 64, 32, 16)

    def __post_init__(self) -> None:
        require_resolution(self.resolution, self.channels)
        smallest = min(count * (4 * 2**index) ** 2 for index, count in enumerate(self.channels[:-1]))
        if not 1 <= self.subspace_dim <= smallest:
            raise UserError(
                f"subspace_dim {self.subspace_dim} was given, but a layer's features have {smallest} numbers: give 1 to"
                f" {smallest}, the paper's is 6."
            )
        if (self.embedding_dim > 0) != (self.num_classes > 1):
            raise UserError(
                f"embedding_dim {self.embedding_dim} does not go with {self.num_classes} class(es): give 0 for one"
                " class, more than 0 for several."
            )


class EigenGAN(Generator):
    """An EigenGAN of any power-of-two size.

    Its z is one vector, [noise | z_1 | ... | z_n], all N(0, 1), so every stage can use it like other generators.

    Args:
        architecture: Sizes of everything.
        name: Name used in messages and in files.
        class_names: One name per class.

    Attributes:
        noise_dim: Length of the noise.
        num_layers: n.
        dims_per_layer: q.
    """

    def __init__(
        self, architecture: EigenGANArchitecture, name: str = "eigengan", class_names: tuple[str, ...] = ("all",)
    ) -> None:
        super().__init__()
        if len(class_names) != architecture.num_classes:
            raise ValueError(f"{len(class_names)} class names were given for {architecture.num_classes} classes.")
        channels = architecture.channels
        self.architecture = architecture
        self.name = name
        self.noise_dim = architecture.noise_dim
        self.num_layers = len(channels) - 1
        self.dims_per_layer = architecture.subspace_dim
        self.latent_dim = self.noise_dim + self.num_layers * self.dims_per_layer
        self.num_classes = architecture.num_classes
        self.class_names = class_names
        self.resolution = architecture.resolution
        self.embedding = nn.Embedding(self.num_classes, architecture.embedding_dim) if self.num_classes > 1 else None
        self.first = nn.Linear(self.noise_dim + architecture.embedding_dim, channels[0] * 4 * 4)
        self.subspaces = nn.ModuleList(
            Subspace(count, 4 * 2**index, self.dims_per_layer) for index, count in enumerate(channels[:-1])
        )
        self.blocks = nn.ModuleList(UpsamplingBlock(inputs, outputs) for inputs, outputs in pairwise(channels))
        self.last_norm = nn.BatchNorm2d(channels[-1])
        self.last = nn.Conv2d(channels[-1], self.channels, 3, padding=1)

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        """Draws images; see `Generator.forward`."""
        noise, *points = latents.split([self.noise_dim] + [self.dims_per_layer] * self.num_layers, dim=1)
        if self.embedding is not None:
            noise = torch.cat([noise, self.embedding(classes)], dim=1)
        features = self.first(noise).view(len(latents), -1, 4, 4)
        for subspace, block, point in zip(self.subspaces, self.blocks, points, strict=True):
            features = (features + subspace(point)).contiguous(memory_format=torch.channels_last)
            features = block(features)
        return torch.tanh(self.last(F.relu(self.last_norm(features))).float())

    @property
    def feature_layers(self) -> dict[str, nn.Module]:
        """block0 (8 px) up to the block of the full resolution."""
        return {f"block{index}": block for index, block in enumerate(self.blocks)}

    def layers(self) -> list["Subspace"]:
        """The subspaces, from the coarsest layer to the finest."""
        return [module for module in self.subspaces if isinstance(module, Subspace)]

    @property
    def importances(self) -> Tensor:
        """|L_ij|, float [num_layers, dims_per_layer]: how far one unit of z_ij moves the features of layer i."""
        return torch.stack([subspace.importance.detach().abs().float() for subspace in self.layers()])

    @property
    def bases(self) -> list[Tensor]:
        """U_i of every layer, float [channels * side * side, dims_per_layer], orthonormal columns."""
        return [subspace.basis.detach().float() for subspace in self.layers()]

    def column(self, layer: int, index: int) -> int:
        """Position of z_ij in z; both counted from zero."""
        return self.noise_dim + layer * self.dims_per_layer + index

    @property
    def own_directions(self) -> dict[str, Tensor]:
        """Each z_ij as a unit vector, float [latent_dim]: L1D1, L1D2, ...; D1 has the largest |L_ij| of its layer."""
        directions = {}
        for layer, importances in enumerate(self.importances.cpu()):
            for rank, index in enumerate(importances.argsort(descending=True, stable=True).tolist(), start=1):
                vector = torch.zeros(self.latent_dim)
                vector[self.column(layer, index)] = 1.0
                directions[f"L{layer + 1}D{rank}"] = vector
        return directions

    def orthogonality(self) -> Tensor:
        """The loss that keeps the U_i orthonormal, |U^T U - I|^2 / q^2, summed over the layers; a scalar."""
        return torch.stack([subspace.orthogonality() for subspace in self.layers()]).sum()

    def initialise(self, random: torch.Generator) -> None:
        """Sets the first weights.

        Convolutions and linear layers get Glorot weights as in SN-GAN. U_i is orthonormal, L_i = (3 q, ..., 6, 3) and
        mu_i = 0.
        """
        initialise_glorot(self, random)
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, generator=random)
        for subspace in self.layers():
            subspace.initialise(random)

    def metadata(self) -> dict[str, object]:
        """Returns what is needed to build this generator again, without its weights, as plain JSON values."""
        return {"family": "eigengan", "architecture": asdict(self.architecture), "class_names": list(self.class_names)}


class Subspace(nn.Module):
    """Maps z to the point U diag(L) z + mu in the feature space [channels, side, side] of a layer (section 3.1).

    Args:
        channels: Channels of the features.
        side: Side of the features in pixels.
        dimensions: q.
    """

    def __init__(self, channels: int, side: int, dimensions: int) -> None:
        super().__init__()
        self.shape = (channels, side, side)
        self.basis = nn.Parameter(torch.zeros(channels * side * side, dimensions))
        self.importance = nn.Parameter(torch.zeros(dimensions))
        self.offset = nn.Parameter(torch.zeros(channels * side * side))

    def forward(self, points: Tensor) -> Tensor:
        """z_i [N, q] -> features [N, channels, side, side]."""
        return F.linear(points * self.importance, self.basis, self.offset).view(-1, *self.shape)

    def orthogonality(self) -> Tensor:
        """|U^T U - I|^2 / q^2, a scalar; computed in float32 even under automatic mixed precision."""
        with torch.autocast(self.basis.device.type, enabled=False):
            product = self.basis.T @ self.basis
            return (product - torch.eye(len(product), device=product.device)).square().mean()

    def initialise(self, random: torch.Generator) -> None:
        """Sets an orthonormal basis and importances 3 q, ..., 6, 3 as in the authors' code (18 to 3 for q = 6)."""
        nn.init.orthogonal_(self.basis, generator=random)
        count = len(self.importance)
        self.importance.data = 3.0 * torch.arange(count, 0, -1)
        nn.init.zeros_(self.offset)

    @torch.no_grad()
    def make_orthonormal(self) -> None:
        """Replaces U by the nearest orthonormal basis of the same span: U (U^T U)^(-1/2)."""
        basis = self.basis.cpu().double()  # Apple's GPUs have no float64
        values, vectors = torch.linalg.eigh(basis.T @ basis)
        whitening = vectors @ torch.diag(values.clamp(min=1e-12).rsqrt()) @ vectors.T
        self.basis.copy_(basis @ whitening)
