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


def bundled_folder(name: str) -> Path:
    """Folder of the package that holds the bundled generator `name` and its directions."""
    return Path(str(files("saliency_gan") / "weights" / name))


def load_generator(name: str, weights: Path | None = None, truncation: float = 1.0) -> Generator:
    """Loads a generator, frozen and in evaluation mode, on the CPU.

    Args:
        name: A name of the zoo, or the path of a file that `save_generator` wrote.
        weights: The weights where they are not bundled: a folder or a file.
        truncation: Scale of the latents, in families that have it.

    Raises:
        UserError: If the name is unknown, or the weights are missing, damaged or of another family.
    """
    if name in BIGGAN_DEEP:
        from saliency_gan.generators.biggan_deep import load_biggan_deep

        return load_biggan_deep(name, weights, truncation).freeze()
    if name in BUNDLED:
        return _read_biggan(weights or bundled_folder(name) / "generator.safetensors", name).freeze()
    path = Path(name)
    if path.is_file():
        return _read_biggan(path, path.stem).freeze()
    near = difflib.get_close_matches(name, (*BUNDLED, *BIGGAN_DEEP), n=1, cutoff=0.0)[0]
    raise UserError(f"There is no generator and no file {name!r}: did you mean {near!r}?")


def save_generator(generator: BigGAN, path: Path, dtype: torch.dtype = torch.float16) -> None:
    """Writes weights and everything else that `load_generator` needs into one safetensors file."""
    tensors = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).cpu().contiguous()
        for name, tensor in generator.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    write_bytes(path, safetensors.torch.save(tensors, {"generator": json.dumps(generator.metadata())}))


def _read_biggan(path: Path, name: str) -> BigGAN:
    try:
        with safetensors.safe_open(path, "pt") as file:
            description = json.loads(file.metadata()["generator"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (safe_open is no mapping)
        sizes = description["architecture"]
        architecture = BigGANArchitecture(**{**sizes, "channels": tuple(sizes["channels"])})
        generator = BigGAN(architecture, name, tuple(description["class_names"]))
        counters = {key: value for key, value in generator.state_dict().items() if key.endswith("num_batches_tracked")}
        generator.load_state_dict({key: value.float() for key, value in tensors.items()} | counters)
    except FileNotFoundError:
        raise UserError(f"There is no generator file {path}: train one with train-gan or check the path.") from None
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise UserError(f"{path} is not a generator file that train-gan wrote, or it is damaged ({reason}).") from None
    generator.sha256 = sha256_of(path)
    return generator.to(memory_format=torch.channels_last)
