import pytest
import torch
import torch.nn.functional as F
from torch import nn

from saliency_gan.generators.upsampling import UpsampledConv2d
from saliency_gan.runs.random_streams import random_stream


def convolution(inputs: int = 3, outputs: int = 2) -> UpsampledConv2d:
    """Random weights in float64, frozen and folded."""
    layer = UpsampledConv2d(inputs, outputs).double().requires_grad_(False)
    for parameter in layer.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=random_stream(1)))
    layer.fold()
    return layer


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=random_stream(2), dtype=torch.float64)


def by_hand(layer: UpsampledConv2d, features: torch.Tensor) -> torch.Tensor:
    """Every output pixel as a sum over the taps that lie inside the upsampled map."""
    count, _, height, width = features.shape
    result = layer.bias.view(1, -1, 1, 1).repeat(count, 1, 2 * height, 2 * width)
    for row in range(2 * height):
        for column in range(2 * width):
            for down in range(3):
                for across in range(3):
                    y, x = row + down - 1, column + across - 1
                    if 0 <= y < 2 * height and 0 <= x < 2 * width:
                        result[:, :, row, column] += features[:, :, y // 2, x // 2] @ layer.weight[:, :, down, across].T
    return result


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 5), (4, 4)])
def test_folded_weights_upsample_and_convolve(height, width):
    layer, features = convolution(), drawn(2, 3, height, width)
    torch.testing.assert_close(layer(features), by_hand(layer, features), rtol=0, atol=1e-12)


def test_gradients_of_the_features_are_those_of_the_two_steps():
    layer, features = convolution(), drawn(2, 3, 4, 4).requires_grad_()
    wanted = drawn(2, 2, 8, 8)
    folded = torch.autograd.grad(layer(features), features, wanted)[0]
    plain = F.conv2d(F.interpolate(features, scale_factor=2), layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(folded, torch.autograd.grad(plain, features, wanted)[0], rtol=0, atol=1e-12)


def test_weights_that_are_trained_after_folding_are_used():
    layer, features = convolution().requires_grad_(True), drawn(1, 3, 2, 2)
    layer.weight.data.mul_(2)
    torch.testing.assert_close(layer(features), by_hand(layer, features), rtol=0, atol=1e-12)
    layer(features).sum().backward()
    assert layer.weight.grad is not None


def test_parameters_are_those_of_a_convolution():
    assert list(convolution().state_dict()) == list(nn.Conv2d(3, 2, 3).state_dict())


@pytest.mark.parametrize("family", ["biggan", "sngan", "eigengan with classes"])
def test_a_frozen_generator_is_folded_and_draws_the_same(families, family):
    generator = families[family]()
    layers = [module for module in generator.modules() if isinstance(module, UpsampledConv2d)]
    assert layers and all(layer.kernel is not None for layer in layers)
    latents, classes = generator.sample_latents(3, random_stream(0)), torch.zeros(3, dtype=torch.int64)
    folded = generator(latents, classes)
    plain = generator.requires_grad_(True)(latents, classes)
    torch.testing.assert_close(folded, plain.detach(), rtol=0, atol=1e-5)
