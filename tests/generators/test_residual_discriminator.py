import torch
import torch.nn.functional as F
from torch import nn

from saliency_gan.generators.residual_discriminator import DiscriminatorBlock, ResidualDiscriminator
from saliency_gan.runs.random_streams import random_stream


def make_discriminator() -> ResidualDiscriminator:
    torch.manual_seed(0)
    return ResidualDiscriminator(3, (8, 12))


def test_score_is_a_linear_score_plus_the_projection_on_the_class():
    discriminator = make_discriminator().eval()
    seen = []
    discriminator.blocks[-1].register_forward_hook(lambda _module, _inputs, features: seen.append(features))
    images = torch.randn(2, 3, 16, 16, generator=random_stream(0))
    scores = discriminator(images, torch.tensor([2, 0]))
    for sample, label in enumerate((2, 0)):
        phi = seen[0][sample].clamp(min=0).sum(dim=(1, 2)) / 4
        linear, embedding = discriminator.score.weight[0], discriminator.embedding.weight[label]
        expected = sum(phi[i] * (linear[i] + embedding[i]) for i in range(12)) + discriminator.score.bias[0]
        torch.testing.assert_close(scores[sample], expected, rtol=1e-5, atol=1e-6)


def test_blocks_halve_down_from_half_the_side_and_the_last_keeps_its_size():
    discriminator = make_discriminator()
    sides = []
    for block in discriminator.blocks:
        block.register_forward_hook(lambda _module, _inputs, features: sides.append(features.shape[-1]))
    discriminator(torch.zeros(1, 3, 16, 16), torch.tensor([0]))
    assert sides == [4, 2, 2]


def test_every_weight_has_spectral_norm_one_once_the_power_iteration_has_settled():
    discriminator = make_discriminator().train()
    with torch.no_grad():
        for _ in range(200):
            discriminator(torch.zeros(1, 3, 16, 16), torch.tensor([0]))
    layers = [module for module in discriminator.modules() if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding)]
    assert len(layers) == 3 * 2 + 2 + 2  # two convolutions a block, two shortcuts, score, embedding
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2)
        torch.testing.assert_close(largest, torch.ones(()), rtol=0, atol=1e-3)


def test_block_equals_pooling_after_the_shortcut():
    torch.manual_seed(0)
    block = DiscriminatorBlock(4, 6, halve=True, first=False).double().eval()
    features = torch.randn(2, 4, 8, 8, generator=random_stream(0), dtype=torch.float64)
    residual = F.conv2d(features.clamp(min=0), block.conv1.weight, block.conv1.bias, padding=1).clamp(min=0)
    residual = F.conv2d(residual, block.conv2.weight, block.conv2.bias, padding=1)
    both = residual + F.conv2d(features, block.shortcut.weight, block.shortcut.bias)
    pooled = (both[:, :, ::2, ::2] + both[:, :, 1::2, ::2] + both[:, :, ::2, 1::2] + both[:, :, 1::2, 1::2]) / 4
    torch.testing.assert_close(block(features), pooled, rtol=0, atol=1e-12)


def test_without_classes_there_is_no_projection():
    torch.manual_seed(0)
    discriminator = ResidualDiscriminator(1, (8, 12), image_channels=1).eval()
    assert not any(name.startswith("embedding") for name in discriminator.state_dict())
    seen = []
    discriminator.blocks[-1].register_forward_hook(lambda _module, _inputs, features: seen.append(features))
    images = torch.randn(2, 1, 16, 16, generator=random_stream(0))
    scores = discriminator(images, torch.zeros(2, dtype=torch.int64))
    phi = seen[0].clamp(min=0).sum(dim=(2, 3)) / 4
    expected = (phi * discriminator.score.weight[0]).sum(dim=1) + discriminator.score.bias[0]
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-6)


def test_spectral_norm_bounds_the_layers_however_large_the_weights_grow():
    torch.manual_seed(0)
    discriminator = ResidualDiscriminator(1, (8,), image_channels=1).train()
    images, classes = torch.randn(2, 1, 16, 16, generator=random_stream(0)), torch.zeros(2, dtype=torch.int64)
    with torch.no_grad():
        for _ in range(200):
            discriminator(images, classes)
        discriminator.eval()
        before = discriminator(images, classes) - discriminator.score.bias
        for module in discriminator.modules():
            if hasattr(module, "parametrizations"):
                module.parametrizations.weight.original.mul_(50)
                norm = torch.linalg.matrix_norm(module.weight.double().flatten(1), ord=2)
                assert norm <= 1.001
        torch.testing.assert_close(discriminator(images, classes) - discriminator.score.bias, before)
