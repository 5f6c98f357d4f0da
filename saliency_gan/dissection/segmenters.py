"""Concepts from segmentation models: torchvision's with the user's weights file, or the user's own code."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights, list_models, segmentation

from saliency_gan.dissection.concepts import Appearance, ConceptSource, Joined, Saliency
from saliency_gan.encoders.pretrained import IMAGENET_MEAN, IMAGENET_STD
from saliency_gan.errors import UserError, reason_of
from saliency_gan.generators.custom import running
from saliency_gan.images.tensors import to_unit
from saliency_gan.saliency.model import SaliencyModel
from saliency_gan.storage.files import read_text
from saliency_gan.storage.run_layout import is_custom
from saliency_gan.storage.torch_files import load_torch

BUILT_IN: dict[str, Callable[[SaliencyModel | None], ConceptSource]] = {
    "saliency": Saliency,
    "appearance": lambda _: Appearance(),
}
TORCHVISION = "torchvision:"
SIDE = 224
"""Smaller images are enlarged to this side in pixels for torchvision's models, which learned from 520 px photos."""


def concept_sources(
    asked: Sequence[str],
    weights: Path | None = None,
    names: Path | None = None,
    saliency_model: SaliencyModel | None = None,
) -> Joined:
    """Builds the sources that `--concepts` names.

    Args:
        asked: `saliency`, `appearance`, `torchvision:MODEL` or `PATH.py:FUNCTION`, which is run.
        weights: Weights of the segmentation model among the sources.
        names: Text file with the names of its classes, one per line; None takes the model's own names.
        saliency_model: Model for the source `saliency`; None takes the bundled model.

    Raises:
        UserError: If there is no such source, two of them are segmentation models, the model's weights are missing or
            do not fit, or two concepts have the same name.
    """
    models = [name for name in asked if name not in BUILT_IN]
    if not asked or len(models) > 1:
        raise UserError(f"--concepts {','.join(asked)}: give at least one source and at most one segmentation model.")
    if not models and (weights or names):
        raise UserError(f"{weights or names} belongs to a segmentation model, but --concepts names none: add it there.")
    sources = [
        BUILT_IN[name](saliency_model) if name in BUILT_IN else load_segmenter(name, weights, names) for name in asked
    ]
    try:
        return Joined(sources)
    except ValueError as error:
        raise UserError(f"{error} Rename the model's with --concept_names, or leave a source out.") from None


class Segmenter(ConceptSource):
    """The classes of a segmentation model as concepts: a pixel belongs to the class with the highest score.

    Args:
        network: Images, float [N, 3, H, W] in [-1, 1] -> scores before the softmax, float [N, classes, h, w].
        names: One name per class.
    """

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        self.network = network.eval().requires_grad_(False)
        self.names = self.graded = tuple(names)
        self.kinds = ("object",) * len(self.names)

    def __call__(self, images: Tensor) -> Tensor:
        """See `ConceptSource`."""
        best = self._scores(images).argmax(1)
        return F.one_hot(best, len(self.names)).bool().permute(0, 3, 1, 2)

    def share(self, images: Tensor, concept: int) -> Tensor:
        """See `ConceptSource`; the mean probability."""
        return self._scores(images).softmax(1)[:, concept].mean((1, 2))

    def _scores(self, images: Tensor) -> Tensor:
        network = self.network.to(images.device)
        scores = network(images.float().expand(-1, 3, -1, -1)).float()
        return F.interpolate(scores, images.shape[-2:], mode="bilinear")


def load_segmenter(name: str, weights: Path | None, names: Path | None) -> Segmenter:
    """Builds a segmentation model.

    Args:
        name: `torchvision:MODEL` or `PATH.py:FUNCTION`.
        weights: For torchvision a state dict, read without executing pickled code. A function gets the path.
        names: As for `concept_sources`.

    Raises:
        UserError: If the model cannot be built, or its number of classes is not the number of names.
    """
    if name.startswith(TORCHVISION):
        network, known = _torchvision(name.removeprefix(TORCHVISION), weights)
    elif is_custom(name):
        with running(name, weights) as (network, _):
            known = tuple(getattr(network, "class_names", ()))
            if not isinstance(network, nn.Module):
                raise UserError(f"{name} returned a {type(network).__name__}, no torch module.")
            _check_scores(network, name)
    else:
        raise UserError(
            f"There is no source of concepts {name!r}: give {', '.join(BUILT_IN)}, {TORCHVISION}MODEL or"
            " PATH.py:FUNCTION. TorchScript and exported programs hold code, so they are loaded by a function of yours."
        )
    with torch.no_grad():
        count = network.eval()(torch.zeros(1, 3, 64, 64)).shape[1]
    given = _lines(names) if names else known or tuple(f"class {index}" for index in range(count))
    if len(given) != count:
        raise UserError(
            f"{name} has {count} classes, but {names or name} names {len(given)}: give --concept_names FILE, one a"
            " line."
        )
    return Segmenter(network, given)


class _Photos(nn.Module):
    """A model of torchvision with the inputs and outputs that `Segmenter` needs."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        pixels = to_unit(images)
        if max(pixels.shape[-2:]) < SIDE:
            pixels = F.interpolate(pixels, (SIDE, SIDE), mode="bilinear")
        return self.model((pixels - self.mean) / self.std)["out"]


def _torchvision(name: str, weights: Path | None) -> tuple[nn.Module, tuple[str, ...]]:
    known = list_models(module=segmentation)
    if name not in known:
        raise UserError(f"torchvision has no segmentation model {name!r}: give one of {', '.join(known)}.")
    published = get_model_weights(name).DEFAULT
    if weights is None:
        raise UserError(
            f"{TORCHVISION}{name} needs --concept_weights FILE, since nothing is downloaded: torchvision's own are at"
            f" {published.url}."
        )
    state = _state(weights)
    heads = [key for key in state if key.startswith("classifier.") and key.endswith(".weight") and state[key].ndim == 4]
    try:
        sizes: dict[str, Any] = {"num_classes": len(state[heads[-1]])}
        if any(key.startswith("aux_classifier.") for key in state):
            sizes["aux_loss"] = True
        model = get_model(name, weights=None, weights_backbone=None, **sizes)
        model.load_state_dict(state)
    except (IndexError, NotImplementedError, RuntimeError, TypeError) as error:
        raise UserError(f"{weights} does not hold the weights of {TORCHVISION}{name} ({reason_of(error)}).") from None
    names = tuple(published.meta["categories"])
    return _Photos(model), names if len(names) == sizes["num_classes"] else ()


def _state(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".safetensors":
        state = load_torch(path)
    else:
        try:
            state = safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise UserError(f"{path} is missing, damaged or no safetensors file ({str(error)[:120]}).") from None
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path} holds more than tensors: give the state dict of a segmentation model.")
    return state


def _check_scores(network: nn.Module, name: str) -> None:
    with torch.no_grad():
        scores = network.eval()(torch.zeros(1, 3, 64, 64))
    if not isinstance(scores, Tensor) or scores.ndim != 4 or len(scores) != 1:
        shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise UserError(f"The model of {name} made {shape} of one image: it has to return scores [N, classes, h, w].")


def _lines(path: Path) -> tuple[str, ...]:
    try:
        return tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    except ValueError as error:
        raise UserError(f"{path} is no text file ({str(error)[:80]}): give one with a name per line.") from None
