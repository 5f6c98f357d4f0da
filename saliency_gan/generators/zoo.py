"""Loads a frozen generator by its name. `GENERATORS` is the table of names."""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from saliency_gan.errors import UserError, reason_of
from saliency_gan.generators.base import Generator
from saliency_gan.generators.custom import load_custom
from saliency_gan.generators.downloads import PublicFile, fetch, pin
from saliency_gan.generators.families import TrainedGenerator, generator_of
from saliency_gan.generators.units import ablate
from saliency_gan.storage.bundled import bundled_folder
from saliency_gan.storage.files import sha256_of, write_bytes
from saliency_gan.storage.run_layout import GENERATOR_FILE, GeneratorChoice, is_custom

FREE_DATA = ("Caltech-101", "MNIST")
"""Training images whose terms do not restrict what a generator is used for."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known about a generator before its weights are loaded.

    Attributes:
        adapter: `module.function` in saliency_gan.generators that reads the public weights. Its arguments are the name,
            the path and, if the family has it, the truncation. None for a file that train-gan wrote.
        resolution: Side of the images in pixels.
        latent_dim: d, the length of z.
        num_classes: Number of classes; 1 for an unconditional generator.
        parameters: Number of parameters, without batch statistics.
        K: Number of directions that the preset looks for; 0 where the generator has built-in directions.
        pipeline: The preset, a file in pipelines/.
        licence: Licence of the weights.
        data: What it was trained on.
        files: Files to download; empty for weights that are part of the package.
        truncates: Whether the family scales and truncates its latents.
    """

    adapter: str | None = None
    resolution: int
    latent_dim: int
    num_classes: int
    parameters: int
    K: int
    pipeline: str
    licence: str
    data: str
    files: tuple[PublicFile, ...] = ()
    truncates: bool = False

    @property
    def is_free(self) -> bool:
        """Whether neither the licence nor the terms of the training data restrict what the weights are used for."""
        return self.licence == "MIT" and self.data in FREE_DATA


def _biggan_deep(side: int, parameters: int) -> Entry:
    address = f"https://s3.amazonaws.com/models.huggingface.co/biggan/biggan-deep-{side}"
    return Entry(
        adapter="biggan_deep.load_biggan_deep",
        resolution=side,
        latent_dim=128,
        num_classes=1000,
        parameters=parameters,
        K=120,
        pipeline=f"biggan-deep-{side}.yaml",
        licence="MIT",
        data="ImageNet",
        files=tuple(PublicFile(name, (f"{address}-{name}",)) for name in ("config.json", "pytorch_model.bin")),
        truncates=True,
    )


GENERATORS: dict[str, Entry] = {
    "biggan-caltech101-64": Entry(
        resolution=64,
        latent_dim=120,
        num_classes=59,
        parameters=1_659_203,
        K=120,
        pipeline="caltech101-64.yaml",
        licence="MIT",
        data="Caltech-101",
    ),
    "biggan-caltech101-64-projected": Entry(
        resolution=64,
        latent_dim=120,
        num_classes=59,
        parameters=4_724_388,
        K=120,
        pipeline="caltech101-64-projected.yaml",
        licence="MIT",
        data="Caltech-101, ImageNet's labels",
    ),
    "sngan-mnist": Entry(
        resolution=32,
        latent_dim=128,
        num_classes=1,
        parameters=195_009,
        K=64,
        pipeline="sngan-mnist.yaml",
        licence="MIT",
        data="MNIST",
    ),
    "sngan-anime": Entry(
        resolution=64,
        latent_dim=128,
        num_classes=1,
        parameters=1_510_211,
        K=128,
        pipeline="sngan-anime.yaml",
        licence="research only",
        data="anime faces",
    ),
    "eigengan-celeba-64": Entry(
        resolution=64,
        latent_dim=152,
        num_classes=1,
        parameters=1_940_315,
        K=0,
        pipeline="eigengan-64.yaml",
        licence="research only",
        data="CelebA",
    ),
    "eigengan-caltech101-64": Entry(
        resolution=64,
        latent_dim=152,
        num_classes=59,
        parameters=2_206_235,
        K=0,
        pipeline="eigengan-caltech101-64.yaml",
        licence="MIT",
        data="Caltech-101",
    ),
    "biggan-deep-128": _biggan_deep(128, 50_388_609),
    "biggan-deep-256": _biggan_deep(256, 55_880_833),
    "biggan-deep-512": _biggan_deep(512, 56_163_905),
    "biggan-128": Entry(
        adapter="biggan_128.load_biggan_128",
        resolution=128,
        latent_dim=120,
        num_classes=1000,
        parameters=70_433_988,
        K=120,
        pipeline="biggan-128-paper.yaml",
        licence="MIT",
        data="ImageNet",
        files=(
            PublicFile(
                "G_ema.pth",
                (
                    # First the file that Voynov & Babenko's download.py fetches, then BigGAN-PyTorch's archive (138k).
                    "https://www.dropbox.com/s/zte4oein08ajsij/pretrained_biggan.tar?dl=1#G_ema.pth",
                    "https://drive.usercontent.google.com/download"
                    "?id=1nAle7FCVFZdix2--ks0r5JBkFnKw8ctW&confirm=t#G_ema.pth",
                ),
            ),
        ),
    ),
    "progan-celebahq-1024": Entry(
        adapter="progan.load_progan",
        resolution=1024,
        latent_dim=512,
        num_classes=1,
        parameters=23_071_526,
        K=200,
        pipeline="progan-celebahq-1024.yaml",
        licence="CC BY-NC 4.0",
        data="CelebA-HQ",
        files=(
            PublicFile(
                "100_celeb_hq_network-snapshot-010403.pth",
                (
                    # First the conversion itself, then the file that Voynov & Babenko's download.py fetches.
                    "https://github.com/ptrblck/prog_gans_pytorch_inference/raw/master/"
                    "100_celeb_hq_network-snapshot-010403.pth",
                    "https://www.dropbox.com/s/707xjn1rla8nwqc/pretrained_proggan.tar?dl=1"
                    "#100_celeb_hq_network-snapshot-010403.pth",
                ),
            ),
        ),
    ),
}
"""Name -> generator. No publisher names a sha256, see `downloads.pin`."""

_MALFORMED = (ArithmeticError, AttributeError, TypeError, ValueError, RuntimeError)
PICKLE_SUFFIXES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt")


def is_bundled(name: str) -> bool:
    """Whether `name` is a key of `GENERATORS` and its weights are part of the package."""
    return name in GENERATORS and (bundled_folder(name) / GENERATOR_FILE).is_file()


def load_generator(
    name: str | Path, weights: Path | str | None = None, truncation: float = 1.0, ablate_units: Sequence[str] = ()
) -> Generator:
    """Loads a generator, frozen and in evaluation mode, on the CPU.

    Args:
        name: A key of `GENERATORS`, the path of a file that `save_generator` wrote or of its folder, or
            `PATH.py:FUNCTION`.
        weights: Folder or file with the weights. None takes bundled weights, or those in the cache, and downloads
            missing ones.
        truncation: Scale of the latents, in families that have it.
        ablate_units: Units to switch off, `LAYER:U,U,U` per layer; see `units.ablate`.

    Raises:
        UserError: If the name is unknown, the weights are missing, damaged or of another family, or a unit does not
            exist.
        StageError: If they cannot be downloaded.
    """
    generator = _load_intact(str(name), Path(weights) if weights is not None else None, truncation).freeze()
    return ablate(generator, ablate_units) if ablate_units else generator


def load_chosen(choice: GeneratorChoice) -> Generator:
    """Loads the generator that `choice` describes; see `load_generator`."""
    return load_generator(choice.name, choice.weights, choice.truncation, choice.ablate_units)


def _load_intact(name: str, weights: Path | None, truncation: float) -> Generator:
    if name in GENERATORS:
        return _load_known(name, weights, truncation)
    if truncation != 1:
        raise _no_truncation(name, truncation)
    if is_custom(name):
        return load_custom(name, weights)
    path = Path(name)
    if path.suffix or path.exists():
        if weights is not None:
            raise UserError(
                f"Both the generator file {name} and the weights {weights} were given: leave out one of them."
            )
        return _read_trained(path, path.stem)
    near = difflib.get_close_matches(name, GENERATORS, n=1, cutoff=0.5)
    advice = f"did you mean {near[0]!r}?" if near else "saliency-gan generators lists those that there are."
    raise UserError(f"There is no generator and no file {name!r}: {advice}")


def _load_known(name: str, weights: Path | None, truncation: float) -> Generator:
    entry = GENERATORS[name]
    if truncation != 1 and not entry.truncates:
        raise _no_truncation(name, truncation)
    if not 0 < truncation <= 1:
        raise UserError(f"truncation {truncation} was asked of {name}, but it has to lie above 0 and at most at 1.")
    if entry.adapter is None:
        if weights is None and not is_bundled(name):
            raise UserError(
                f"The weights of {name} are not in this installation: train them with `saliency-gan train-gan --config"
                f" pipelines/{entry.pipeline}` and give the run's generator folder with --weights."
            )
        return _read_trained(weights or bundled_folder(name), name)
    module, _, function = entry.adapter.partition(".")
    adapter = getattr(import_module(f"saliency_gan.generators.{module}"), function)
    path = fetch(name, entry.files) if weights is None else weights
    generator: Generator = adapter(name, path, truncation) if entry.truncates else adapter(name, path)
    if weights is None:
        pin(name, entry.files)
    return generator


def _no_truncation(name: str, truncation: float) -> UserError:
    families = ", ".join(known for known, entry in GENERATORS.items() if entry.truncates)
    return UserError(f"truncation {truncation} was asked of {name}, but only {families} have it.")


def save_generator(generator: TrainedGenerator, path: Path, dtype: torch.dtype = torch.float16) -> None:
    """Writes weights and everything else that `load_generator` needs into one safetensors file.

    Args:
        generator: What to save.
        path: File to write.
        dtype: Type of the matrices and convolutions. Biases and batch statistics stay float32, because they are small.
    """
    tensors = {
        name: tensor.to(dtype if tensor.ndim > 1 else torch.float32).cpu().contiguous()
        for name, tensor in generator.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    write_bytes(path, safetensors.torch.save(tensors, {"generator": json.dumps(generator.metadata())}))


def _read_trained(path: Path, name: str) -> TrainedGenerator:
    """Reads a file that `save_generator` wrote; `path` is the file or its folder."""
    path = path / GENERATOR_FILE if path.is_dir() else path
    try:
        with safetensors.safe_open(path, "pt") as file:
            description = json.loads((file.metadata() or {})["generator"])
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118  (no mapping)
            _check_shapes(description, shapes)
            tensors = {key: file.get_tensor(key).float() for key in shapes}
        if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
            raise ValueError("not every weight is a finite number")
        generator = generator_of(description, name)
        counters = {key: value for key, value in generator.state_dict().items() if key.endswith("num_batches_tracked")}
        generator.load_state_dict(tensors | counters)
    except FileNotFoundError:
        raise UserError(f"There is no generator file {path}: train one with train-gan or check the path.") from None
    except UserError as error:
        raise UserError(f"{path} describes no generator that there can be: {error}") from None
    except (safetensors.SafetensorError, OSError, LookupError, *_MALFORMED) as error:
        raise UserError(f"{path} is not a generator file that train-gan wrote ({_reason(path, error)}).") from None
    generator.sha256 = sha256_of(path)
    return generator


def _check_shapes(description: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raises ValueError if the description does not match the tensors.

    This happens before the generator is built, because a forged description could ask for too much memory.
    """
    names = description["class_names"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("its class_names are no list of names")
    if not all(type(size) is int and size >= 0 for size in _sizes(description["architecture"])):
        raise ValueError("its architecture holds something else than whole numbers")
    with torch.device("meta"):
        planned = generator_of(description, "planned").state_dict()
    expected = {key: tuple(value.shape) for key, value in planned.items() if not key.endswith("num_batches_tracked")}
    for key in (*expected, *shapes):
        if expected.get(key) != shapes.get(key):
            found, wanted = shapes.get(key, "missing"), expected.get(key, "none")
            raise ValueError(f"size mismatch for {key[:80]}: it is {found}, but its description asks for {wanted}")


def _sizes(architecture: Mapping[str, Any]) -> Iterator[Any]:
    for value in architecture.values():
        yield from value if isinstance(value, list) else (value,)


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, safetensors.SafetensorError):
        if path.suffix in PICKLE_SUFFIXES:
            return "pickled weights are never loaded, since they can run code: give a .safetensors file"
        return "no safetensors file, or a damaged one"
    if isinstance(error, KeyError):
        return f"its description lacks {error}"
    return reason_of(error)
