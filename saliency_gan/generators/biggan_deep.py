"""BigGAN-deep for ImageNet at 128, 256 and 512 px (Brock et al. 2019), by the package pytorch-pretrained-biggan.

Its latents and directions are not those of `biggan.BigGAN`: z of 128 numbers enters every layer whole, and the batch
norms carry statistics for 51 truncations.
"""

from pathlib import Path

import pytorch_pretrained_biggan as package
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saliency_gan.errors import UserError
from saliency_gan.generators import imagenet
from saliency_gan.generators.base import Generator
from saliency_gan.runs import load_torch, read_json, sha256_of

CONFIG, WEIGHTS = "config.json", "pytorch_model.bin"


class BigGANDeep(Generator):
    """A pretrained BigGAN-deep behind the contract of every generator.

    Args:
        model: The package's model.
        name: Name in the zoo.
        truncation: Half the largest |z| drawn, in (0, 1]; also chooses the batch statistics, which were measured at the
            multiples of 0.02.
    """

    def __init__(self, model: package.BigGAN, name: str, truncation: float = 1.0) -> None:
        super().__init__()
        self.model = model
        self.name = name
        self.truncation = truncation
        self.latent_dim = model.config.z_dim
        self.num_classes = model.config.num_classes
        self.class_names = _class_names(self.num_classes)
        self.resolution = model.config.output_dim

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        """Draws images; see `Generator.forward`. Latents are as `sample_latents` draws them: already truncated."""
        class_vectors = F.one_hot(classes, self.num_classes).to(latents.dtype)
        return self.model(latents, class_vectors, self.truncation).float()

    @property
    def feature_layers(self) -> dict[str, nn.Module]:
        """layer0 (4 px) up to the last residual block; one of them is self-attention."""
        return {f"layer{index}": layer for index, layer in enumerate(self.model.generator.layers)}

    def sample_latents(self, count: int, random: torch.Generator) -> Tensor:
        """Draws z ~ truncation * N(0, I) with every |z| <= 2 * truncation, float [count, latent_dim], on the CPU."""
        latents = torch.empty(count, self.latent_dim)
        return nn.init.trunc_normal_(latents, a=-2.0, b=2.0, generator=random).mul_(self.truncation)


def load_biggan_deep(name: str, weights: Path, truncation: float = 1.0) -> BigGANDeep:
    """Loads BigGAN-deep from its two public files.

    Args:
        name: biggan-deep-128, biggan-deep-256 or biggan-deep-512.
        weights: Folder with config.json and pytorch_model.bin (or named as they are on the server, with `name-` in
            front), or the weights file in such a folder.
        truncation: See `BigGANDeep`.

    Raises:
        UserError: If files are missing, damaged or of another model.
    """
    folder = weights.parent if weights.is_file() else weights
    config_path = _find(folder, name, CONFIG)
    weights_path = weights if weights.is_file() else _find(folder, name, WEIGHTS)
    model = _build(config_path, name)
    state = load_torch(weights_path)
    try:
        # Not strict about extra tensors, as in the package; about missing ones, unlike it.
        missing = model.load_state_dict(state, strict=False).missing_keys
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        missing = [" ".join(str(error).split())[:200]]
    if missing:
        raise UserError(f"{weights_path} does not hold the weights that {config_path} describes ({missing[0]}).")
    generator = BigGANDeep(_fold_spectral_norm(model), name, truncation)
    generator.sha256 = sha256_of(weights_path)
    return generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _find(folder: Path, name: str, file: str) -> Path:
    for candidate in (folder / file, folder / f"{name}-{file}"):
        if candidate.is_file():
            return candidate
    raise UserError(f"{folder} holds no {file}: --weights needs a folder with {CONFIG} and {WEIGHTS} of {name}.")


def _build(path: Path, name: str) -> package.BigGAN:
    """The model that a config.json describes, with random weights."""
    description = read_json(path)
    try:
        config = package.BigGANConfig.from_dict(description)
        side = 4 * 2 ** sum(bool(upsample) for upsample, _, _ in config.layers)
        if not name.endswith(f"-{side}") or side != config.output_dim:
            raise UserError(f"{path} describes a {side} px model, but {name} was asked for: give that one's folder.")
        return package.BigGAN(config)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path} is not the config.json of a BigGAN-deep ({reason}).") from None


def _fold_spectral_norm(model: package.BigGAN) -> package.BigGAN:
    """Divides every weight by its spectral norm once, not at every call; in evaluation the numbers are the same."""
    model.eval()
    for module in model.modules():
        if hasattr(module, "weight_orig"):
            nn.utils.remove_spectral_norm(module)
    return model


def _class_names(count: int) -> tuple[str, ...]:
    """The ImageNet classes, or numbers for a model of other classes."""
    names = imagenet.class_names()
    return names if count == len(names) else tuple(str(index) for index in range(count))
