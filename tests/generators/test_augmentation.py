import pytest
import torch

from saliency_gan.generators.augmentation import augment
from saliency_gan.runs.random_streams import random_stream


def make_images(count=16, side=8, dtype=torch.float64) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=random_stream(0), dtype=dtype) * 2 - 1


def test_strength_zero_changes_nothing():
    images = make_images()
    assert torch.equal(augment(images, 0.0, 0.0, random_stream(1)), images)


def test_colours_equal_the_formula_written_as_loops():
    images, strength = make_images(5), 0.3
    result = augment(images, 0.0, strength, random_stream(1))
    amounts = (torch.rand(3, 5, generator=random_stream(1)).double() * 2 - 1) * strength
    for sample in range(5):
        brightness, saturation, contrast = amounts[0, sample], 1 + amounts[1, sample], 1 + amounts[2, sample]
        picture = images[sample] + brightness
        grey = (picture[0] + picture[1] + picture[2]) / 3
        picture = torch.stack([grey + saturation * (channel - grey) for channel in picture])
        picture = picture.mean() + contrast * (picture - picture.mean())
        torch.testing.assert_close(result[sample], picture, rtol=0, atol=1e-6)


def test_brightness_moves_the_mean_by_up_to_the_strength_and_evenly():
    images = make_images(400)
    moved = (augment(images, 0.0, 0.3, random_stream(1)) - images).mean(dim=(1, 2, 3))
    assert moved.abs().max() <= 0.3 + 1e-6
    assert moved.min() < -0.28 and moved.max() > 0.28 and abs(moved.mean()) < 0.03


def test_translation_shifts_every_image_by_its_own_whole_pixels_and_fills_with_zero():
    images = make_images(60)
    result = augment(images, 0.25, 0.0, random_stream(1))
    found = []
    for before, after in zip(images, result, strict=True):
        padded = torch.zeros(3, 12, 12, dtype=torch.float64)
        padded[:, 2:10, 2:10] = before
        matches = [
            (row, column)
            for row in range(5)
            for column in range(5)
            if torch.equal(padded[:, row : row + 8, column : column + 8], after)
        ]
        assert len(matches) == 1
        found += matches
    assert {row for row, _ in found} == {column for _, column in found} == set(range(5))  # 8 px * 0.25 both ways


def test_gradient_flows_through_to_the_images():
    images = make_images(2, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda images: augment(images, 0.25, 0.3, random_stream(1)), images)


@pytest.mark.parametrize(("translation", "colour"), [(0.25, 0.0), (0.0, 0.3)])
def test_amounts_follow_the_stream(translation, colour):
    images = make_images(4)
    first, second, other = (augment(images, translation, colour, random_stream(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)
