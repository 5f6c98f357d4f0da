from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from saliency_gan.errors import UserError
from saliency_gan.generators.sngan import SNGAN, SNGANArchitecture, UpsamplingBlock
from saliency_gan.runs.random_streams import random_stream

from .conftest import make_sngan


def convolved(features: np.ndarray, conv: nn.Conv2d) -> np.ndarray:
    """3 x 3 convolution with zeros around, in float64, as a sum over the nine places of the kernel."""
    weight, bias = (parameter.detach().double().numpy() for parameter in (conv.weight, conv.bias))
    padded = np.pad(features, ((0, 0), (0, 0), (1, 1), (1, 1)))
    height, width = features.shape[2:]
    result = np.zeros((len(features), len(weight), height, width)) + bias[:, None, None]
    for row in range(3):
        for column in range(3):
            window = padded[:, :, row : row + height, column : column + width]
            result += np.einsum("nihw,oi->nohw", window, weight[:, :, row, column])
    return result


def normalised(features: np.ndarray, norm: nn.BatchNorm2d) -> np.ndarray:
    mean, variance, gain, bias = (
        tensor.detach().double().numpy()[:, None, None]
        for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (features - mean) / np.sqrt(variance + norm.eps) * gain + bias


def doubled(features: np.ndarray) -> np.ndarray:
    return features.repeat(2, axis=2).repeat(2, axis=3)


def block_by_hand(features: np.ndarray, block: UpsamplingBlock) -> np.ndarray:
    residual = convolved(doubled(np.maximum(normalised(features, block.norm1), 0)), block.conv1)
    residual = convolved(np.maximum(normalised(residual, block.norm2), 0), block.conv2)
    shortcut = doubled(features)
    if isinstance(block.shortcut, nn.Conv2d):
        shortcut = convolved(shortcut, block.shortcut)
    return residual + shortcut


@pytest.mark.parametrize("index", [0, 1], ids=["other number of channels", "same number of channels"])
def test_a_block_equals_a_float64_computation(index):
    block = make_sngan((12, 8, 8)).eval().blocks[index]
    assert isinstance(block.shortcut, nn.Conv2d) == (index == 0)
    features = torch.randn(3, 12 if index == 0 else 8, 5, 4, generator=random_stream(0))
    expected = block_by_hand(features.double().numpy(), block)
    np.testing.assert_allclose(block(features).detach().numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("image_channels", [1, 3])
def test_the_whole_generator_equals_a_float64_computation(image_channels):
    generator = make_sngan((12, 8, 8), image_channels).freeze()
    latents = torch.randn(2, 10, generator=random_stream(1))
    first = generator.first
    features = latents.double().numpy() @ first.weight.double().numpy().T + first.bias.double().numpy()
    features = features.reshape(2, 12, 4, 4)
    for block in generator.blocks:
        features = block_by_hand(features, block)
    features = convolved(np.maximum(normalised(features, generator.last_norm), 0), generator.last)
    images = generator(latents, torch.zeros(2, dtype=torch.int64))
    np.testing.assert_allclose(images.numpy(), np.tanh(features), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "sizes"),
    [
        (SNGANArchitecture(32, 128, (256, 256, 256, 256), 1), (256, 256, 256, 256)),
        (SNGANArchitecture(64, 128, (1024, 512, 256, 128, 64), 3), (1024, 512, 256, 128, 64)),
    ],
    ids=["MNIST", "AnimeFaces"],
)
def test_the_published_sizes_have_the_published_number_of_parameters(architecture, sizes):
    expected = (128 + 1) * sizes[0] * 16  # the linear layer
    for inputs, outputs in pairwise(sizes):
        expected += 2 * inputs + (9 * inputs + 1) * outputs + 2 * outputs + (9 * outputs + 1) * outputs
        expected += (9 * inputs + 1) * outputs if inputs != outputs else 0
    expected += 2 * sizes[-1] + (9 * sizes[-1] + 1) * architecture.image_channels
    with torch.device("meta"):
        generator = SNGAN(architecture)
    assert sum(parameter.numel() for parameter in generator.parameters()) == expected
    assert (generator.resolution, generator.num_classes) == (architecture.resolution, 1)


def test_initial_weights_are_uniform_within_glorot_s_bounds():
    generator = SNGAN(SNGANArchitecture(16, 64, (48, 32, 32), 3))
    generator.initialise(random_stream(0))
    block = generator.blocks[0]
    for module, gain in ((generator.first, 1), (block.conv1, 2**0.5), (block.conv2, 2**0.5), (block.shortcut, 1)):
        outputs, inputs = module.weight.shape[:2]
        area = module.weight[0, 0].numel() if module.weight.ndim == 4 else 1
        bound = gain * (6 / (area * (inputs + outputs))) ** 0.5
        assert 0.99 * bound < module.weight.abs().max() <= bound
        assert module.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
        assert not module.bias.any()


@pytest.mark.parametrize(("resolution", "channels"), [(32, (8, 8, 8)), (24, (8, 8, 8)), (4, (8,)), (2, ())])
def test_sizes_that_do_not_fit_are_refused(resolution, channels):
    with pytest.raises(UserError, match=r"channel numbers make a \d+ px generator, but resolution is"):
        SNGANArchitecture(resolution, 8, channels, 3)


def test_more_than_one_class_is_refused():
    with pytest.raises(ValueError, match=r"2 class names .* unconditional"):
        SNGAN(SNGANArchitecture(8, 8, (8, 8), 3), "pair", ("a", "b"))
