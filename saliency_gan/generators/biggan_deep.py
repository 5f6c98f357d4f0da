"""BigGAN-deep for ImageNet at 128, 256 and 512 px (Brock et al. 2019), by the package pytorch-pretrained-biggan.

Its latents and directions are not those of `biggan.BigGAN`: z of 128 numbers enters every layer whole, and the batch
norms carry statistics for 51 truncations.
"""

import os
from pathlib import Path

import pooch
import pytorch_pretrained_biggan as package
import torch
import torch.nn.functional as F
from pytorch_pretrained_biggan.model import PRETRAINED_CONFIG_ARCHIVE_MAP, PRETRAINED_MODEL_ARCHIVE_MAP
from torch import Tensor, nn

from saliency_gan.errors import UserError
from saliency_gan.generators.base import Generator
from saliency_gan.runs import load_torch, read_json, sha256_of, write_json

CONFIG, WEIGHTS, HASHES = "config.json", "pytorch_model.bin", "sha256.json"
URLS = {CONFIG: PRETRAINED_CONFIG_ARCHIVE_MAP, WEIGHTS: PRETRAINED_MODEL_ARCHIVE_MAP}


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


def load_biggan_deep(name: str, weights: Path | None = None, truncation: float = 1.0) -> BigGANDeep:
    """Loads BigGAN-deep from a local folder, or from the public files, which are downloaded once.

    Args:
        name: biggan-deep-128, biggan-deep-256 or biggan-deep-512.
        weights: Folder with config.json and pytorch_model.bin (or named as they are on the server, with `name-` in
            front), or the weights file in such a folder; None downloads into the cache folder.
        truncation: See `BigGANDeep`.

    Raises:
        UserError: If files are missing, damaged or of another model, or cannot be downloaded.
    """
    if not 0 < truncation <= 1:
        raise UserError(f"truncation {truncation} was asked of {name}, but it has to lie above 0 and at most at 1.")
    given = _download(name) if weights is None else weights
    folder = given.parent if given.is_file() else given
    config_path = _find(folder, name, CONFIG)
    weights_path = given if given.is_file() else _find(folder, name, WEIGHTS)
    model = _build(config_path, name)
    state = load_torch(weights_path)
    try:
        # Not strict about extra tensors, as in the package; about missing ones, unlike it.
        missing = model.load_state_dict(state, strict=False).missing_keys
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        missing = [" ".join(str(error).split())[:200]]
    if missing:
        raise UserError(f"{weights_path} does not hold the weights that {config_path} describes ({missing[0]}).")
    if weights is None:
        _pin(folder)  # only now: a portal's login page is no reason to refuse the real file next time
    generator = BigGANDeep(_fold_spectral_norm(model), name, truncation)
    generator.sha256 = sha256_of(weights_path)
    return generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def cache_folder() -> Path:
    """Where downloads are kept: $SALIENCY_GAN_CACHE, or the user's cache folder."""
    return Path(os.environ.get("SALIENCY_GAN_CACHE") or pooch.os_cache("saliency_gan"))


def _download(name: str) -> Path:
    """Fetches the two files of `name` unless the cache holds them; returns their folder.

    The server publishes no checksum, so the first download is taken as it comes; see `_pin`.
    """
    folder = cache_folder() / name
    hashes = _pinned(folder)
    pooch.get_logger().setLevel("WARNING")
    for file, urls in URLS.items():
        try:
            pooch.retrieve(urls[name], hashes.get(file), fname=file, path=folder, progressbar=True)
        except Exception as error:  # requests, urllib3 and the file system each raise their own
            reason = " ".join(str(error).split())[:100]
            raise UserError(
                f"{urls[name]} could not be downloaded ({type(error).__name__}: {reason}): get {URLS[CONFIG][name]} and"
                f" {URLS[WEIGHTS][name]} another way, put both into one folder and give --weights FOLDER."
            ) from None
    return folder


def _pin(folder: Path) -> None:
    """Holds every later load to the sha256 of the files that were downloaded first and could be used; prints it."""
    hashes = _pinned(folder)
    for file in URLS:
        if file not in hashes:
            hashes[file] = sha256_of(folder / file)
            print(f"{folder / file} has sha256 {hashes[file]}; no official one is known, later loads are held to this.")
            write_json(folder / HASHES, hashes)


def _pinned(folder: Path) -> dict[str, str]:
    return read_json(folder / HASHES) if (folder / HASHES).exists() else {}


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
    """The ImageNet classes in their usual order; numbers for a model of other classes."""
    from torchvision.models import ResNet50_Weights

    categories = tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])
    return categories if count == len(categories) else tuple(str(index) for index in range(count))
