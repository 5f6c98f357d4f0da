"""The contract of `base.Generator`, checked on every family."""

import pytest
import torch
from scipy import stats

from saliency_gan.errors import UserError
from saliency_gan.runs.random_streams import random_stream

FAMILIES = (
    "biggan",
    "biggan with attention",
    "biggan-deep",
    "sngan",
    "sngan grey",
    "eigengan",
    "eigengan with classes",
)


@pytest.fixture(params=FAMILIES)
def generator(request, families):
    return families[request.param]()


def draw(generator, count=4):
    return generator.sample_latents(count, random_stream(1)), generator.sample_classes(count, random_stream(2))


def test_images_have_the_promised_shape_type_and_range(generator):
    images = generator(*draw(generator))
    assert images.shape == (4, generator.channels, generator.resolution, generator.resolution)
    assert images.dtype == torch.float32
    assert images.abs().max() <= 1
    assert images.std() > 0.01


def test_same_seed_same_images(generator):
    assert torch.equal(generator(*draw(generator)), generator(*draw(generator)))


def test_an_image_is_the_same_alone_as_in_a_batch(generator):
    latents, classes = draw(generator)
    together = generator(latents, classes)
    for index in range(len(latents)):
        alone = generator(latents[index : index + 1], classes[index : index + 1])
        torch.testing.assert_close(alone[0], together[index], rtol=0, atol=1e-5)


def test_latents_and_the_class_where_there_are_some_change_the_image(generator):
    latents, _ = draw(generator, 2)
    images = generator(latents, [0, 0])
    assert (images[0] - images[1]).abs().max() > 1e-3
    if generator.num_classes > 1:
        assert (images - generator(latents, [1, 1])).abs().max() > 1e-3


def test_classes_may_be_named(families):
    generator = families["biggan"]()
    latents, _ = draw(generator, 2)
    names = [generator.class_names[1], generator.class_names[0]]
    assert torch.equal(generator(latents, names), generator(latents, torch.tensor([1, 0])))
    with pytest.raises(UserError, match="no class 'nobody'"):
        generator(latents, ["nobody", 0])


@pytest.mark.parametrize(
    "classes, sentence", [([0, 9999], "no class 9999"), ([-1, 0], "no class -1"), ([0], "1 classes")]
)
def test_classes_that_do_not_exist_are_named(generator, classes, sentence):
    latents, _ = draw(generator, 2)
    with pytest.raises(UserError, match=sentence):
        generator(latents, classes)
    with pytest.raises(UserError, match=sentence):
        generator(latents, torch.tensor(classes))


def test_frozen_generator_passes_gradients_to_the_latents_only(generator):
    latents, classes = draw(generator)
    generator(latents.requires_grad_(), classes).square().sum().backward()
    assert latents.grad is not None and latents.grad.abs().sum() > 0
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in generator.parameters())
    assert not any(module.training for module in generator.modules())


def test_latents_follow_the_family_s_distribution(generator):
    latents = generator.sample_latents(5000, random_stream(3))
    assert latents.shape == (5000, generator.latent_dim) and latents.device.type == "cpu"
    truncation = getattr(generator, "truncation", None)
    expected = stats.norm() if truncation is None else stats.truncnorm(-2, 2, scale=truncation)
    assert stats.kstest(latents.flatten().numpy()[:20_000], expected.cdf).pvalue > 0.01
    if truncation is not None:
        assert latents.abs().max() <= 2 * truncation


def test_classes_are_drawn_uniformly_from_all_or_from_some(generator):
    classes = generator.sample_classes(6000, random_stream(4))
    counts = torch.bincount(classes, minlength=generator.num_classes)
    assert len(counts) == generator.num_classes and classes.dtype == torch.int64
    assert generator.num_classes == 1 or stats.chisquare(counts.numpy()).pvalue > 0.01
    among = generator.sample_classes(3000, random_stream(4), among=[2, 0])
    assert set(among.tolist()) == {0, 2}
    assert abs((among == 2).float().mean().item() - 0.5) < 0.05


def test_feature_layers_go_from_coarse_to_fine(generator):
    sides, handles = [], []
    for layer in generator.feature_layers.values():
        handles.append(layer.register_forward_hook(lambda _module, _inputs, features: sides.append(features.shape)))
    generator(*draw(generator, 2))
    for handle in handles:
        handle.remove()
    assert len(sides) == len(generator.feature_layers) > 1
    assert all(len(shape) == 4 and shape[0] == 2 and shape[2] == shape[3] for shape in sides)
    assert [shape[2] for shape in sides] == sorted(shape[2] for shape in sides)
    assert sides[-1][2] == generator.resolution


def test_every_class_has_a_name(generator):
    assert len(generator.class_names) == generator.num_classes


@pytest.mark.parametrize(
    ("given", "expected"), [(None, None), (["dog"], [1]), (["FISH", " cat "], [2, 0]), ([2, "0"], [2, 0])]
)
def test_class_names_and_indices_are_understood(families, given, expected):
    assert families["biggan"]().class_indices(given) == expected


def test_names_that_differ_in_case_only_stay_apart(families):
    generator = families["biggan"]()
    generator.class_names = ("Cardigan", "cardigan", "boat")
    assert generator.class_indices(["Cardigan", "cardigan"]) == [0, 1]


@pytest.mark.parametrize("given", [["dgo"], ["-1"], ["²"], [""]])
def test_unknown_classes_are_refused_with_a_suggestion(families, given):
    with pytest.raises(UserError, match=r"tiny has no class .* index below 3 .* did you mean"):
        families["biggan"]().class_indices(given)


def test_an_empty_list_of_classes_is_refused(families):
    with pytest.raises(UserError, match="empty list"):
        families["biggan"]().class_indices([])
