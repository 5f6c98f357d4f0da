"""The saliency model: a network of segmentation-models-pytorch with input normalisation and one logit per pixel."""

from collections.abc import Container
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from saliency_gan.encoders.norms import fold_norms
from saliency_gan.encoders.pretrained import PACKAGES, load_packaged_weights, pretrained_name, statistics_of
from saliency_gan.errors import UserError, reason_of
from saliency_gan.saliency.network import SaliencyArchitecture, WithoutWeights, build_network
from saliency_gan.storage.bundled import bundled_folder
from saliency_gan.storage.files import read_json, sha256_of, write_bytes, write_json

PAPER_TEMPERATURE = 10.0
"""The paper's code divides its two logits by this value before the softmax."""

FORMAT = "saliency-gan/1"


class SaliencyModel(nn.Module):
    """Predicts for every pixel whether it belongs to a salient object.

    Args:
        architecture: Sizes of everything.
        encoder_weights: none starts at random. imagenet takes the weights from an installed package if it has them for
            the encoder, else it downloads them.
        stored: Names of the tensors that will be loaded from a file. The network gets the layers of these tensors, and
            no forward pass finds out which layers it needs.

    Attributes:
        architecture: Sizes of everything. With ImageNet weights, the encoder's name may differ from the given one, see
            `pretrained.pretrained_name`.
        about: What the model was trained on, as plain JSON values; it is saved and loaded with the model. Its
            "encoder_weights" names the package of the encoder's initial weights, if there is one.
        sha256: Hex digest of the file it was loaded from; "" for a model that was not loaded from a file.

    Raises:
        UserError: If the library has no such network, or the package with the ImageNet weights is missing or damaged.
        StageError: If the ImageNet weights cannot be downloaded.
    """

    def __init__(
        self,
        architecture: SaliencyArchitecture,
        encoder_weights: Literal["none", "imagenet"] = "none",
        stored: Container[str] = (),
    ) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        if encoder_weights == "imagenet":
            architecture = replace(architecture, encoder=pretrained_name(architecture.encoder))
        self.architecture = architecture
        self.about: dict[str, Any] = {}
        self.sha256 = ""
        self.network = build_network(architecture, encoder_weights, stored)
        encoder: Any = self.network.encoder
        if encoder_weights == "imagenet" and architecture.encoder in PACKAGES:
            self.about["encoder_weights"] = load_packaged_weights(encoder, architecture.encoder)
        if not architecture.encoder_norms and not stored:
            fold_encoder(encoder, architecture.encoder)
        self.set_statistics()

    def set_statistics(self) -> None:
        """Sets the encoder's mean and deviation, converted from [0, 1] to this package's image range [-1, 1]."""
        mean, std = statistics_of(self.architecture.encoder)
        for name, values in (("mean", np.array(mean) * 2 - 1), ("std", np.array(std) * 2)):
            # Always float32, like the images, even if torch's default type differs.
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Computes the logit of the foreground; its sigmoid is the saliency.

        With two outputs, it is their difference divided by the temperature, because
        softmax(l / T)[foreground] = sigmoid((l_foreground - l_background) / T).

        Args:
            images: Float [N, 3, H, W] in [-1, 1].

        Returns:
            Float32 [N, 1, H, W].
        """
        logits = self.network((images - self.mean) / self.std).float()
        return logits if logits.shape[1] == 1 else (logits[:, 1:] - logits[:, :1]) / PAPER_TEMPERATURE

    def save(self, folder: Path) -> Path:
        """Writes model.safetensors (weights in half precision) and config.json into `folder`.

        Returns:
            The weights file.
        """
        tensors = {
            name: (tensor if "running_" in name else tensor.half()).cpu().contiguous()
            for name, tensor in self.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
        path = folder / "model.safetensors"
        write_bytes(path, safetensors.torch.save(tensors, {"format": FORMAT}))
        write_json(folder / "config.json", {"format": FORMAT, **asdict(self.architecture), "about": self.about})
        return path


@torch.no_grad()
def fold_encoder(encoder: Any, name: str) -> None:
    """Folds the batch norms of an encoder into its convolutions, and checks that its outputs stay the same.

    Args:
        encoder: The encoder, which is changed.
        name: Name of the encoder.

    Raises:
        UserError: If its outputs change.
    """
    random = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, 64, 64, generator=random, device="cpu").to(next(encoder.parameters()))
    before: list[Tensor] = []
    fold_norms(encoder.eval(), lambda: before.extend(encoder(images)))
    after = encoder(images)
    if not all((one - other).norm() <= 1e-3 * other.norm() for one, other in zip(after, before, strict=True)):
        raise UserError(
            f"The batch norms of {name} cannot become part of its convolutions: choose another encoder, such as"
            " tu-tf_efficientnet_lite2 or resnet18, or start at random with --encoder_weights none."
        )
    encoder.train()


def load_model(path: Path | None = None) -> SaliencyModel:
    """Loads a model that `SaliencyModel.save` wrote, frozen and in evaluation mode, on the CPU.

    Args:
        path: model.safetensors, or the folder that holds it and config.json; None takes the bundled model.

    Raises:
        UserError: If a file is missing, damaged, or not of a saliency model.
    """
    if path is None:
        path = bundled_folder("saliency")
        if not (path / "model.safetensors").exists():
            raise UserError("This installation bundles no saliency model: train one and give it with --weights PATH.")
    path = path / "model.safetensors" if path.is_dir() else path
    if path.suffix == ".onnx":
        raise UserError(
            f"{path} is an exported model: use it with predict --runtime onnx, or give a model.safetensors."
        )
    try:
        tensors = safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise UserError(
            f"There is no saliency model {path}: give a folder with a model.safetensors and its config.json."
        ) from None
    except (safetensors.SafetensorError, OSError, LookupError, AttributeError, TypeError, ValueError) as error:
        raise _not_a_model(path, error) from None
    if not path.with_name("config.json").exists():
        raise UserError(f"There is no config.json beside {path}: keep both files of a model together.")
    description = read_json(path.with_name("config.json"))
    try:
        about = description.pop("about")
        if description.pop("format") != FORMAT:
            raise ValueError("config.json is of another format")
        if not isinstance(about, dict) or type(description["resolution"]) is not int:
            raise ValueError("config.json does not describe one")
        sizes = {**description, "decoder_channels": tuple(description["decoder_channels"])}
        model = _build_for(tensors, SaliencyArchitecture(**sizes))
        counters = {key: torch.tensor(0) for key in model.state_dict() if key.endswith("num_batches_tracked")}
        model.load_state_dict({key: value.float() for key, value in tensors.items()} | counters, assign=True)
        model.set_statistics()
        if not all(torch.isfinite(tensor).all() for tensor in model.state_dict().values()):
            raise ValueError("not every weight is a finite number")
        model.eval().requires_grad_(False)(torch.zeros(1, 3, 64, 64, dtype=torch.float32))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise _not_a_model(path, error) from None
    model.about, model.sha256 = about, sha256_of(path)
    return model.to(memory_format=torch.channels_last)


def _build_for(tensors: dict[str, Tensor], architecture: SaliencyArchitecture) -> SaliencyModel:
    """Builds a model without memory for its tensors, and checks that their shapes are those of `tensors`.

    A forged description could ask for too much memory, and random initial weights would take time.
    """
    with torch.device("meta"), WithoutWeights():
        model = SaliencyModel(architecture, stored=tensors)
    shapes = {key: value.shape for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    if key := next((key for key in (*shapes, *tensors) if key not in shapes or key not in tensors), None):
        raise ValueError(f"config.json and the weights do not fit each other at {key[:80]}")
    if key := next((key for key in shapes if shapes[key] != tensors[key].shape), None):
        raise ValueError(f"{key} is {tuple(tensors[key].shape)}, not {tuple(shapes[key])}")
    return model


def _not_a_model(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path} is not a saliency model that train-saliency wrote, or it is damaged ({reason_of(error)})."
    )
