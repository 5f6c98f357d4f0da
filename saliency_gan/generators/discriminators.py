"""Builds the discriminator for a training run, and reads and writes its weights."""

from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from saliency_gan.config import TrainGanConfig
from saliency_gan.encoders.frozen import STRIDES
from saliency_gan.errors import UserError, reason_of
from saliency_gan.generators.projected_discriminator import HEAD, FeaturePyramid, ProjectedHeads
from saliency_gan.generators.residual_discriminator import ResidualDiscriminator
from saliency_gan.storage.files import write_bytes


class Critic(nn.Module):
    """A whole discriminator: a fixed part that is never trained, and a trained part.

    Args:
        eye: Fixed part. Turns images [N, channels, H, W] in [-1, 1] into the judge's input; `nn.Identity` or a
            FeaturePyramid.
        judge: Trained part. Scores that input for classes int64 [N]; returns [N] or [N, scores].
    """

    def __init__(self, eye: nn.Module, judge: nn.Module) -> None:
        super().__init__()
        self.eye = eye
        self.judge = judge

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        """How real each image is, [N]: the mean of its scores."""
        return self.judge(self.eye(images), classes).reshape(len(images), -1).mean(dim=1)


def new_critic(config: TrainGanConfig, num_classes: int, image_channels: int) -> Critic:
    """Builds the discriminator of `config`, with random weights in its trained part.

    Raises:
        UserError: If its sizes do not fit the images, or the package of the frozen network is missing.
    """
    if config.discriminator == "projected":
        eye = FeaturePyramid(config.feature_side)
        return Critic(eye, ProjectedHeads(num_classes, eye.sides))
    check_residual_sizes(config)
    return Critic(nn.Identity(), ResidualDiscriminator(num_classes, config.discriminator_channels, image_channels))


def check_residual_sizes(config: TrainGanConfig) -> None:
    """Raises a UserError if the residual discriminator would halve images below one pixel."""
    if config.resolution < 2 * 2 ** len(config.discriminator_channels):
        raise UserError(
            f"{len(config.discriminator_channels)} discriminator_channels halve {config.resolution} px images below"
            " one pixel: give fewer."
        )


def save_discriminator(judge: nn.Module, path: Path) -> None:
    """Writes the trained weights in half precision, so that a later training run can start from them."""
    tensors = {name: tensor.half().cpu().contiguous() for name, tensor in judge.state_dict().items()}
    write_bytes(path, safetensors.torch.save(tensors))


def load_discriminator(judge: nn.Module, path: Path) -> None:
    """Reads what `save_discriminator` wrote into a network of the same sizes.

    Raises:
        UserError: If the file is missing, damaged or of another network.
    """
    try:
        tensors = safetensors.torch.load_file(path)
        if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
            raise ValueError("not every weight is a finite number")
        judge.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except FileNotFoundError:
        raise UserError(f"There is no {path}: a training starts from a generator and its discriminator.") from None
    except (safetensors.SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{path} is damaged or no discriminator of these sizes ({reason_of(error)}).") from None


def read_discriminator(path: Path) -> Critic:
    """Builds the discriminator whose weights `save_discriminator` wrote, frozen and in evaluation mode.

    Its kind and sizes follow from the names and shapes of the tensors.

    Raises:
        UserError: As for `load_discriminator`, or if the package of the frozen network is missing.
    """
    shapes = _shapes_in(path)
    critic = _projected_of(shapes) or _residual_of(shapes)
    if critic is None:
        raise UserError(f"{path} holds no discriminator that train-gan wrote.")
    load_discriminator(critic.judge, path)
    critic.to(memory_format=torch.channels_last)
    return critic.eval().requires_grad_(False)


def kind_of(path: Path) -> str:
    """Kind of the discriminator in a file: projected or residual; "" for any other file or a missing one."""
    try:
        names = _shapes_in(path)
    except UserError:
        return ""
    return next((kind for kind, name in _TELLING.items() if name in names), "")


_TELLING = {
    "projected": "heads.0.score.parametrizations.weight.original",
    "residual": "blocks.0.conv1.parametrizations.weight.original",
}
"""Kind -> name of a tensor that only this kind has."""
Shapes = dict[str, tuple[int, ...]]


def _shapes_in(path: Path) -> Shapes:
    try:
        with safetensors.safe_open(path, "pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118  (no mapping)
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path} is missing, damaged or no safetensors file ({str(error)[:120]}).") from None


def _residual_of(shapes: Shapes) -> Critic | None:
    convolutions = [
        shapes.get(f"blocks.{index}.conv1.parametrizations.weight.original") for index in range(len(shapes))
    ]
    sizes = [shape for shape in convolutions if shape and len(shape) == 4]
    if len(sizes) < 2:
        return None
    channels = tuple(shape[0] for shape in sizes[:-1])
    classes = shapes.get("embedding.parametrizations.weight.original", (1,))[0]
    return Critic(nn.Identity(), ResidualDiscriminator(classes, channels, sizes[0][1] // 4))


def _projected_of(shapes: Shapes) -> Critic | None:
    if _TELLING["projected"] not in shapes:
        return None
    halvings = sum(name.startswith("heads.0.halve.") and name.endswith(".original") for name in shapes)
    classes = shapes.get("heads.0.embedding.parametrizations.weight.original", (1,))[0]
    eye = FeaturePyramid(STRIDES[0] * HEAD * 2**halvings)
    return Critic(eye, ProjectedHeads(classes, eye.sides))
