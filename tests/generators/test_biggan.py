import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from saliency_gan.errors import UserError
from saliency_gan.generators.biggan import (
    BIGGAN_128,
    BigGAN,
    BigGANArchitecture,
    ConditionalBatchNorm,
    GeneratorBlock,
    SelfAttention,
)
from saliency_gan.runs.random_streams import random_stream

from .conftest import make_biggan


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights and batch statistics, in float64 and evaluation mode."""
    random = random_stream(seed)
    module = module.double().eval().requires_grad_(False)
    for parameter in module.parameters():
        parameter.normal_(0, 0.5, generator=random)
    for name, buffer in module.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2, generator=random)
        elif name.endswith("running_mean"):
            buffer.normal_(0, 1, generator=random)
    return module


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=random_stream(seed), dtype=torch.float64)


def test_conditional_batch_norm_equals_its_formula_written_as_loops():
    layer = randomise(ConditionalBatchNorm(3, 5))
    features, condition = noise(2, 3, 4, 4), noise(2, 5, seed=2)
    result = layer(features, condition)
    for sample in range(2):
        for channel in range(3):
            gain = 1 + sum(layer.gain.weight[channel, i] * condition[sample, i] for i in range(5))
            bias = sum(layer.bias.weight[channel, i] * condition[sample, i] for i in range(5))
            mean, variance = layer.norm.running_mean[channel], layer.norm.running_var[channel]
            for row in range(4):
                for column in range(4):
                    value = (features[sample, channel, row, column] - mean) / math.sqrt(variance + 1e-5) * gain + bias
                    assert abs(result[sample, channel, row, column] - value) < 1e-12


def test_conditional_batch_norm_is_plain_batch_norm_for_a_zero_condition():
    layer = randomise(ConditionalBatchNorm(3, 5)).train()
    features = noise(6, 3, 4, 4)
    result = layer(features, torch.zeros(6, 5, dtype=torch.float64))
    torch.testing.assert_close(result.mean(dim=(0, 2, 3)), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(result.var(dim=(0, 2, 3), correction=0), torch.ones(3).double(), rtol=1e-4, atol=0)


def test_generator_block_equals_upsampling_before_the_shortcut():
    block = randomise(GeneratorBlock(4, 3, 5))
    features, condition = noise(2, 4, 4, 4), noise(2, 5, seed=2)

    def upsample(values):
        return values.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    residual = upsample(block.norm1(features, condition).clamp(min=0))
    residual = F.conv2d(residual, block.conv1.weight, block.conv1.bias, padding=1)
    residual = block.norm2(residual, condition).clamp(min=0)
    residual = F.conv2d(residual, block.conv2.weight, block.conv2.bias, padding=1)
    shortcut = F.conv2d(upsample(features), block.shortcut.weight, block.shortcut.bias)
    torch.testing.assert_close(block(features, condition), residual + shortcut, rtol=0, atol=1e-12)


def test_self_attention_equals_loops_over_positions():
    channels, side = 8, 4
    attention = randomise(SelfAttention(channels))
    features = noise(1, channels, side, side)

    def project(convolution):
        return torch.einsum("oi,ihw->ohw", convolution.weight[:, :, 0, 0], features[0])

    query, key, value = project(attention.query), project(attention.key), project(attention.value)
    cells = [(slice(row, row + 2), slice(column, column + 2)) for row in (0, 2) for column in (0, 2)]
    keys = [key[(slice(None), *cell)].amax(dim=(1, 2)) for cell in cells]
    values = [value[(slice(None), *cell)].amax(dim=(1, 2)) for cell in cells]
    result = attention(features)[0]
    for row in range(side):
        for column in range(side):
            scores = [math.exp(query[:, row, column] @ other) for other in keys]
            mixed = sum(score / sum(scores) * other for score, other in zip(scores, values, strict=True))
            expected = features[0, :, row, column] + attention.scale * (attention.output.weight[:, :, 0, 0] @ mixed)
            torch.testing.assert_close(result[:, row, column], expected, rtol=0, atol=1e-10)


def test_new_self_attention_is_the_identity():
    features = torch.randn(2, 16, 4, 4, generator=random_stream(0))
    assert torch.equal(SelfAttention(16)(features), features)


def test_a_piece_of_z_reaches_its_own_block_and_those_after_it_only():
    generator = make_biggan().freeze()
    seen = []
    for block in generator.feature_layers.values():
        block.register_forward_hook(lambda _module, _inputs, features: seen.append(features))
    latents, classes = torch.zeros(1, generator.latent_dim), torch.zeros(1, dtype=torch.int64)
    generator(latents, classes)
    changed = latents.clone()
    changed[:, -generator.piece :] = 1  # the last block's piece
    generator(changed, classes)
    assert torch.equal(seen[0], seen[2])
    assert not torch.allclose(seen[1], seen[3])


def test_parameters_of_biggan_128_are_as_many_as_published():
    """The public PyTorch and TensorFlow implementations both count 70,433,988 weights in G."""
    with torch.device("meta"):
        generator = BigGAN(BIGGAN_128)
    counted = sum(parameter.numel() for parameter in generator.parameters())

    ch, embedding, piece = 96, 128, 20
    by_hand = 1000 * embedding + (piece + 1) * 4 * 4 * 16 * ch
    for inputs, outputs in [(16, 16), (16, 8), (8, 4), (4, 2), (2, 1)]:
        inputs, outputs = inputs * ch, outputs * ch
        by_hand += 2 * (embedding + piece) * (inputs + outputs)  # gains and biases of two norms
        by_hand += 9 * inputs * outputs + outputs + 9 * outputs * outputs + outputs + inputs * outputs + outputs
    attended = 2 * ch
    by_hand += attended * (attended // 8 + attended // 8 + attended // 2 + attended // 2) + 1
    by_hand += 2 * ch + 9 * ch * 3 + 3
    assert counted == by_hand == 70_433_988


def test_initialisation_is_orthogonal_unbiased_and_follows_the_stream_alone():
    architecture = BigGANArchitecture(16, 12, 3, 4, (16, 12, 8), 16)
    first, second = BigGAN(architecture), BigGAN(architecture)
    first.initialise(random_stream(5))
    second.initialise(random_stream(5))
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    for module in first.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
            matrix = module.weight.flatten(1).double()
            gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
            torch.testing.assert_close(gram, torch.eye(len(gram)).double(), rtol=0, atol=1e-5)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            assert not module.bias.any()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"resolution": 32, "channels": (8, 8)}, "2 channel numbers make a 8 px generator"),
        ({"resolution": 4, "channels": (8,)}, "1 channel numbers"),
        ({"resolution": 8, "channels": (8, 8), "latent_dim": 7}, "cannot be split into 2 equal pieces"),
        ({"resolution": 8, "channels": (8, 8), "latent_dim": 8, "attention_at": 4}, "one of 8, or 0"),
        ({"resolution": 8, "channels": (8, 4), "latent_dim": 8, "attention_at": 8}, "at least 8 channels"),
    ],
)
def test_impossible_sizes_are_refused(sizes, message):
    with pytest.raises(UserError, match=message):
        BigGANArchitecture(**sizes)
