"""A name -> weights -> a frozen Generator."""

import difflib
import json
from importlib.resources import files
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from saliency_gan.errors import UserError
from saliency_gan.generators.base import Generator
from saliency_gan.generators.biggan import BigGAN, BigGANArchitecture
from saliency_gan.runs import sha256_of, write_bytes

BUNDLED = ("biggan-caltech101-64",)
"""Generators whose weights are part of the package."""

BIGGAN_DEEP = ("biggan-deep-128", "biggan-deep-256", "biggan-deep-512")
"""Generators whose weights are downloaded, or given with --weights."""

GENERATOR_FILE = "generator.safetensors"
PICKLE_SUFFIXES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt")


def bundled_folder(name: str) -> Path:
    """Folder of the package that holds the bundled generator `name` and its directions."""
    return Path(str(files("saliency_gan") / "weights" / name))


def load_generator(name: str, weights: Path | None = None, truncation: float = 1.0) -> Generator:
    """Loads a generator, frozen and in evaluation mode, on the CPU.

    Args:
        name: A name of the zoo, or the path of a file that `save_generator` wrote or of its folder.
        weights: The weights where they are not bundled: a folder or a file.
        truncation: Scale of the latents, in families that have it.

    Raises:
        UserError: If the name is unknown, or the weights are missing, damaged or of another family.
    """
    if name in BIGGAN_DEEP:
        from saliency_gan.generators.biggan_deep import load_biggan_deep

        return load_biggan_deep(name, weights, truncation).freeze()
    if truncation != 1:
        raise UserError(f"truncation {truncation} was asked of {name}, but only {', '.join(BIGGAN_DEEP)} have it.")
    if name in BUNDLED:
        return _read_biggan(weights or bundled_folder(name), name).freeze()
    path = Path(name)
    if path.suffix or path.exists():
        if weights is not None:
            raise UserError(
                f"Both the generator file {name} and the weights {weights} were given: leave out one of them."
            )
        return _read_biggan(path, path.stem).freeze()
    near = difflib.get_close_matches(name, (*BUNDLED, *BIGGAN_DEEP), n=1, cutoff=0.0)[0]
    raise UserError(f"There is no generator and no file {name!r}: did you mean {near!r}?")


def save_generator(generator: BigGAN, path: Path, dtype: torch.dtype = torch.float16) -> None:
    """Writes weights and everything else that `load_generator` needs into one safetensors file.

    Args:
        generator: What to save.
        path: Where to.
        dtype: Type of the matrices and convolutions; biases and batch statistics stay float32, they take no space.
    """
    tensors = {
        name: tensor.to(dtype if tensor.ndim > 1 else torch.float32).cpu().contiguous()
        for name, tensor in generator.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    write_bytes(path, safetensors.torch.save(tensors, {"generator": json.dumps(generator.metadata())}))


def _read_biggan(path: Path, name: str) -> BigGAN:
    """Reads a file of `save_generator`, or the one in the folder `path`."""
    path = path / GENERATOR_FILE if path.is_dir() else path
    try:
        with safetensors.safe_open(path, "pt") as file:
            description = json.loads((file.metadata() or {})["generator"])
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118  (no mapping)
        sizes = description["architecture"]
        architecture = BigGANArchitecture(**{**sizes, "channels": tuple(sizes["channels"])})
        generator = BigGAN(architecture, name, tuple(description["class_names"]))
        counters = {key: value for key, value in generator.state_dict().items() if key.endswith("num_batches_tracked")}
        generator.load_state_dict(tensors | counters)
    except FileNotFoundError:
        raise UserError(f"There is no generator file {path}: train one with train-gan or check the path.") from None
    except (safetensors.SafetensorError, OSError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} is not a generator file that train-gan wrote ({_reason(path, error)}).") from None
    generator.sha256 = sha256_of(path)
    return generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, safetensors.SafetensorError):
        if path.suffix in PICKLE_SUFFIXES:
            return "pickled weights are never loaded, since they can run code: give a .safetensors file"
        return "no safetensors file, or a damaged one"
    if isinstance(error, KeyError):
        return f"its description lacks {error}"
    return " ".join(str(error).split())[:150]
