import numpy as np
import pytest

from saliency_gan.evaluation.baselines import BASELINES, all_foreground, centre_prior, contrast, otsu


def disc_on_ground(object_colour, ground_colour, height=60, width=80, noise=6):
    """An off-centre disc on a ground, both noisy, and its mask."""
    rows, columns = np.mgrid[:height, :width]
    mask = (rows - 25) ** 2 + (columns - 50) ** 2 < 15**2
    image = np.where(mask[:, :, None], object_colour, ground_colour).astype(float)
    image += np.random.default_rng(0).normal(0, noise, image.shape)
    return image.clip(0, 255).astype(np.uint8), mask


def iou(saliency, mask):
    marked = saliency >= 0.5
    return (marked & mask).sum() / (marked | mask).sum()


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("shape", [(60, 80), (400, 300), (1, 1), (1, 7), (2, 2), (300, 3)])
def test_gives_a_map_of_the_photos_size(name, shape):
    random = np.random.default_rng(0)
    for image in (random.integers(0, 256, (*shape, 3), dtype=np.uint8), np.full((*shape, 3), 77, np.uint8)):
        before = image.copy()
        saliency = BASELINES[name](image)
        assert saliency.shape == shape
        assert saliency.dtype == np.float32
        assert np.isfinite(saliency).all()
        assert saliency.min() >= 0
        assert saliency.max() <= 1
        np.testing.assert_array_equal(BASELINES[name](image), saliency)
        np.testing.assert_array_equal(image, before)


def test_centre_prior_is_a_gaussian_of_a_quarter_of_the_sides():
    saliency = centre_prior(np.zeros((41, 81, 3), np.uint8))
    assert saliency[20, 40] == 1
    assert saliency[20, 0] == pytest.approx(np.exp(-((40 / 81) ** 2) / (2 * 0.25**2)), abs=1e-6)
    assert saliency[0, 40] == pytest.approx(np.exp(-((20 / 41) ** 2) / (2 * 0.25**2)), abs=1e-6)
    np.testing.assert_allclose(saliency, saliency[::-1, ::-1], atol=1e-7)


def test_all_foreground_is_ones():
    assert (all_foreground(np.zeros((3, 5, 3), np.uint8)) == 1).all()


@pytest.mark.parametrize(("thing", "ground"), [((220, 220, 220), (60, 60, 60)), ((60, 60, 60), (220, 220, 220))])
def test_otsu_finds_the_object_whatever_is_brighter(thing, ground):
    image, mask = disc_on_ground(thing, ground)
    np.testing.assert_array_equal(otsu(image) == 1, mask)


@pytest.mark.parametrize(
    ("thing", "ground"),
    [((200, 60, 50), (70, 110, 160)), ((30, 30, 30), (240, 240, 240)), ((90, 160, 90), (160, 90, 90))],
)
def test_contrast_finds_an_object_of_another_colour(thing, ground):
    image, mask = disc_on_ground(thing, ground)
    assert iou(contrast(image), mask) > 0.75


def test_contrast_knows_a_ground_of_two_colours():
    """A sky over a meadow: neither stands out, although both are far from their mean."""
    image, mask = disc_on_ground((200, 40, 40), (90, 150, 220))
    meadow = np.zeros_like(mask)
    meadow[40:] = True
    image[meadow & ~mask] = (60, 130, 50)
    assert iou(contrast(image), mask) > 0.75


def test_contrast_of_a_flat_photo_marks_nothing():
    assert contrast(np.full((50, 50, 3), 128, np.uint8)).max() < 0.5
