import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import pytorch_pretrained_biggan as package
import torch
from torch import nn

from saliency_gan.generators.biggan import BigGAN, BigGANArchitecture
from saliency_gan.generators.eigengan import EigenGAN, EigenGANArchitecture
from saliency_gan.generators.sngan import SNGAN, SNGANArchitecture
from saliency_gan.generators.zoo import load_generator
from saliency_gan.runs.random_streams import random_stream

NARROW_DEEP = {"z_dim": 16, "class_embed_dim": 16, "channel_width": 4, "num_classes": 10}
"""The 128 px model of the paper with all layers, but few channels and classes."""


def make_biggan(resolution: int = 16, attention_at: int = 0) -> BigGAN:
    """A tiny BigGAN whose batch statistics and attention are not the trivial ones of a new model."""
    channels = (16, 12, 8, 8)[: resolution.bit_length() - 2]
    architecture = BigGANArchitecture(resolution, 4 * len(channels), 3, 4, channels, attention_at)
    generator = BigGAN(architecture, "tiny", ("cat", "dog", "fish"))
    random = random_stream(7)
    generator.initialise(random)
    for module in generator.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=random)
            module.running_var.uniform_(0.5, 1.5, generator=random)
    for attention in generator.attention.values():
        attention.scale.data.fill_(0.7)
    generator.sha256 = "0" * 64
    return generator


def make_sngan(channels: tuple[int, ...] = (12, 8, 8), image_channels: int = 3) -> SNGAN:
    """A tiny SN-GAN whose batch norms are not the trivial ones of a new model."""
    generator = SNGAN(SNGANArchitecture(2 * 2 ** len(channels), 10, channels, image_channels), "tiny")
    random = random_stream(8)
    generator.initialise(random)
    for module in generator.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=random)
            module.running_var.uniform_(0.5, 1.5, generator=random)
            module.weight.data.uniform_(0.5, 1.5, generator=random)
            module.bias.data.normal_(0, 0.1, generator=random)
    generator.sha256 = "1" * 64
    return generator


def make_eigengan(num_classes: int = 1, channels: tuple[int, ...] = (12, 8, 8)) -> EigenGAN:
    """A tiny EigenGAN with three dimensions a layer."""
    names = ("cat", "dog", "fish")[:num_classes] if num_classes > 1 else ("all",)
    sizes = EigenGANArchitecture(2 * 2 ** len(channels), 10, 3, num_classes, 4 * (num_classes > 1), channels)
    generator = EigenGAN(sizes, "tiny", names)
    random = random_stream(9)
    generator.initialise(random)
    for subspace in generator.layers():
        subspace.offset.data.normal_(0, 0.1, generator=random)
    generator.sha256 = "2" * 64
    return generator


def make_deep(**settings: object) -> package.BigGAN:
    """A BigGAN-deep with random weights, spectral norms that have settled, and other statistics at every truncation."""
    torch.manual_seed(0)
    model = package.BigGAN(package.BigGANConfig.from_dict(settings))
    nn.init.ones_(model.generator.bn.weight)
    nn.init.zeros_(model.generator.bn.bias)
    for module in model.modules():
        if hasattr(module, "running_means"):
            module.running_means.normal_(0, 0.1)
            module.running_vars.uniform_(0.5, 1.5)
        if hasattr(module, "gamma"):
            module.gamma.data.fill_(0.7)
    with torch.no_grad():
        for _ in range(3):  # every call in training mode is one power iteration
            model(torch.randn(1, model.config.z_dim), torch.eye(model.config.num_classes)[:1], 1.0)
    return model.eval()


def save_deep(model: package.BigGAN, folder: Path, legacy: bool = True) -> Path:
    """Writes the two files of the public download; theirs are in the format of torch before 1.6."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.config.to_dict()))
    torch.save(model.state_dict(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    return folder


@pytest.fixture(scope="session")
def deep_model() -> package.BigGAN:
    return make_deep(**NARROW_DEEP)


@pytest.fixture(scope="session")
def deep_folder(deep_model, tmp_path_factory) -> Path:
    return save_deep(deep_model, tmp_path_factory.mktemp("deep"))


@pytest.fixture(scope="session")
def families(deep_folder) -> dict[str, Callable]:
    deep = load_generator("biggan-deep-128", deep_folder, truncation=0.5)
    return {
        "biggan": lambda: make_biggan().freeze(),
        "biggan with attention": lambda: make_biggan(32, 16).freeze(),
        "biggan-deep": lambda: deep,
        "sngan": lambda: make_sngan((12, 8, 8)).freeze(),
        "sngan grey": lambda: make_sngan((8, 8, 8, 8), 1).freeze(),
        "eigengan": lambda: make_eigengan().freeze(),
        "eigengan with classes": lambda: make_eigengan(3).freeze(),
    }


@pytest.fixture
def class_folders(tmp_path) -> Path:
    """Three classes of 24 x 20 px pictures: a bright square on red, on green and on blue ground."""
    random = np.random.default_rng(0)
    for channel, (name, count) in enumerate({"apple": 8, "boat": 4, "cup": 6}.items()):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(count):
            picture = np.zeros((24, 20, 3), np.uint8)
            picture[:, :, channel] = random.integers(60, 200)
            top, left = random.integers(4, 10, 2)
            picture[top : top + 8, left : left + 8] = random.integers(200, 256)
            cv2.imwrite(str(tmp_path / "images" / name / f"{number}.png"), picture[:, :, ::-1])
    return tmp_path / "images"


class Payload:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)
