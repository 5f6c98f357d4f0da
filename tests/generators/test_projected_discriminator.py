import pytest
import torch
import torch.nn.functional as F
from torch import nn

from saliency_gan.generators.discriminators import kind_of, read_discriminator, save_discriminator
from saliency_gan.generators.projected_discriminator import FeaturePyramid, ProjectedHeads
from saliency_gan.runs.random_streams import random_stream


@pytest.fixture(scope="module")
def pyramid():
    return FeaturePyramid(64)


def images():
    return torch.rand(3, 3, 32, 32, generator=random_stream(0)) * 2 - 1


def test_maps_are_mixed_across_channels_then_from_coarse_to_fine(pyramid):
    maps = pyramid.encoder(images())
    mixed = [
        torch.einsum("oi,nihw->nohw", mix.weight[:, :, 0, 0], one)
        for mix, one in zip(pyramid.across_channels, maps, strict=True)
    ]
    expected = [F.conv2d(mixed[3], pyramid.across_scales[3].weight, padding=1)]
    for index in (2, 1, 0):
        above = F.interpolate(expected[0], scale_factor=2, mode="bilinear")
        expected.insert(0, F.conv2d((mixed[index] + above) / 2**0.5, pyramid.across_scales[index].weight, padding=1))
    found = pyramid(images())
    assert [one.shape[-1] for one in found] == pyramid.sides == [16, 8, 4, 2]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_the_pyramid_is_the_same_every_time_and_never_trained(pyramid):
    torch.manual_seed(5)
    again = FeaturePyramid(64)
    for (name, one), other in zip(pyramid.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_mixing_keeps_the_variance(pyramid):
    for mix in [*pyramid.across_channels, *pyramid.across_scales]:
        inputs = mix.weight[0].numel()
        assert mix.weight.var() * inputs == pytest.approx(1, rel=0.15)


def test_every_map_is_scored_at_each_of_its_last_positions(pyramid):
    torch.manual_seed(0)
    heads = ProjectedHeads(1, pyramid.sides)
    scores = heads(pyramid(images()), torch.zeros(3, dtype=torch.int64))
    assert scores.shape == (3, 16 + 16 + 16 + 4)
    assert not any("embedding" in name for name in heads.state_dict())


def test_the_class_adds_the_projection_of_its_embedding(pyramid):
    torch.manual_seed(0)
    heads = ProjectedHeads(5, pyramid.sides).eval()
    seen = []
    for head in heads.heads:
        head.mix.register_forward_hook(lambda _module, _inputs, output: seen.append(F.leaky_relu(output, 0.2)))
    maps = pyramid(images())
    first = heads(maps, torch.tensor([0, 1, 2]))
    features, seen[:] = list(seen), []
    difference = heads(maps, torch.tensor([4, 4, 4])) - first
    expected = []
    for head, one in zip(heads.heads, features, strict=True):
        change = head.embedding.weight[4] - head.embedding.weight[[0, 1, 2]]
        expected.append(torch.einsum("nc,nchw->nhw", change, one).flatten(1))
    torch.testing.assert_close(difference, torch.cat(expected, dim=1), rtol=1e-3, atol=1e-4)


def test_weights_of_the_heads_have_spectral_norm_one(pyramid):
    torch.manual_seed(0)
    heads = ProjectedHeads(3, pyramid.sides).train()
    maps = [torch.zeros(3, 64, side, side) for side in pyramid.sides]
    with torch.no_grad():
        for _ in range(150):
            heads(maps, torch.tensor([0, 1, 2]))
    for module in heads.eval().modules():
        if isinstance(module, nn.Conv2d | nn.Embedding):
            assert float(torch.linalg.matrix_norm(module.weight.detach().flatten(1), ord=2)) == pytest.approx(
                1, abs=0.05
            )


@pytest.mark.parametrize("classes", [1, 4])
def test_a_file_says_its_kind_and_its_sizes(pyramid, classes, tmp_path):
    torch.manual_seed(0)
    heads = ProjectedHeads(classes, pyramid.sides).half().float().eval()
    save_discriminator(heads, tmp_path / "d.safetensors")
    assert kind_of(tmp_path / "d.safetensors") == "projected"
    critic = read_discriminator(tmp_path / "d.safetensors")
    labels = torch.tensor([0, classes - 1, 0])
    scores = critic(images(), labels)
    assert scores.shape == (3,) and not scores.requires_grad
    torch.testing.assert_close(scores, heads(pyramid(images()), labels).mean(dim=1), rtol=1e-3, atol=1e-3)
