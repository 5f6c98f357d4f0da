from collections.abc import Callable

import cv2
import numpy as np
import pytest

from saliency_gan.runs.random_streams import random_stream
from saliency_gan.training.augmentation import Augmentation
from saliency_gan.training.backdrop import _above_horizon, _texture, change_backdrop
from saliency_gan.training.pairs import Pairs, augment
from tests.saliency.toys import disc, discs


def _drawn_from(*images: np.ndarray) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda random: images[random.integers(len(images))]


def _flat(value: int, side: int = 64) -> np.ndarray:
    return np.full((side, side, 3), value, np.uint8)


@pytest.mark.parametrize("seed", range(8))
def test_the_object_keeps_its_colour_and_everything_else_is_of_the_others(seed: int) -> None:
    image = _flat(20)
    _, mask = disc(seed, 64)
    image[mask > 0] = 240
    changed, moved = change_backdrop(image, mask, _drawn_from(_flat(100), _flat(110)), np.random.default_rng(seed))
    kernel = np.ones((7, 7), np.uint8)
    inside, outside = cv2.erode(moved, kernel) == 255, cv2.dilate(moved, kernel) == 0
    assert inside.any() and outside.any()
    assert (changed[inside] >= 235).all()
    assert ((changed[outside] >= 100) & (changed[outside] <= 110)).all()


def test_objects_mostly_shrink_and_stay_in_sight() -> None:
    image, mask = disc(0, 64)
    states = [np.random.default_rng(seed) for seed in range(100)]
    areas = np.array([(change_backdrop(image, mask, _drawn_from(image), state)[1] > 127).mean() for state in states])
    assert areas.min() > 0
    assert 0.3 < areas.mean() / (mask > 127).mean() < 0.9


def test_the_same_state_gives_the_same_pair() -> None:
    images, masks = discs(4, side=32)
    first, again, other = (
        change_backdrop(images[0], masks[0], _drawn_from(*images), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("seed", range(5))
def test_a_texture_is_one_patch_mirrored(seed: int) -> None:
    """Every pixel has a number, so the texture tells where each of its pixels came from."""
    side = 40
    image = np.stack([*np.meshgrid(np.arange(side), np.arange(side)), np.zeros((side, side))], axis=2).astype(np.uint8)
    texture = _texture(image, np.random.default_rng(seed)).astype(int)
    assert texture.shape == (side, side, 3)
    for axis, channel in ((1, 0), (0, 1)):
        line = texture[:, :, channel].take(0, axis=1 - axis)
        assert (texture[:, :, channel] == np.expand_dims(line, 1 - axis)).all()
        steps = np.abs(np.diff(line))
        assert steps.max() == 1, "neighbours stay neighbours, or are mirrored"
        assert np.ptp(line) < 0.65 * side


def test_the_horizon_parts_above_from_below() -> None:
    opacity = _above_horizon(64, np.random.default_rng(0))
    assert opacity.min() >= 0 and opacity.max() <= 1
    assert (np.diff(opacity, axis=0) <= 0).all()
    assert opacity[0].min() > 0.9 and opacity[-1].max() < 0.1


def test_the_share_of_changed_pairs_is_as_asked() -> None:
    pairs = Pairs(*discs(200))
    unchanged = Augmentation("none", 32)
    same, _ = augment(pairs, unchanged, random_stream(0), backdrop=0.0)
    np.testing.assert_array_equal(same, pairs.images)
    some, _ = augment(pairs, unchanged, random_stream(0), backdrop=0.3)
    share = (some != pairs.images).any(axis=(1, 2, 3)).mean()
    assert abs(share - 0.3) < 0.1  # three standard deviations of 200 draws
