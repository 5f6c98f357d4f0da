import random as python_random

import albumentations as A
import cv2
import numpy as np
import pytest

from saliency_gan.runs.random_streams import random_stream
from saliency_gan.training.augmentation import Augmentation, _flips, _zooms
from tests.saliency.toys import disc


@pytest.mark.parametrize("strength", ["none", "flips", "full"])
def test_the_same_stream_gives_the_same_pair_whatever_came_before(strength: str) -> None:
    first, second = Augmentation(strength, 32), Augmentation(strength, 32)
    image, mask = disc(0, 48)
    for number in range(5):
        second(image, mask, random_stream(7, number))
    for number in (3, 9):
        for one, other in zip(
            first(image, mask, random_stream(number)), second(image, mask, random_stream(number)), strict=True
        ):
            assert one.dtype == np.uint8
            np.testing.assert_array_equal(one, other)


def test_different_streams_give_different_pairs() -> None:
    augmentation = Augmentation("full", 32)
    results = {augmentation(*disc(0), random_stream(number))[0].tobytes() for number in range(20)}
    assert len(results) == 20


def test_mask_and_image_move_alike() -> None:
    """An image that is its own mask stays so under everything that moves pixels."""
    _, mask = disc(3, 48)
    pipeline = A.Compose(_flips() + _zooms(32), mask_interpolation=cv2.INTER_LINEAR)
    moved = 0
    for number in range(200):
        pipeline.set_random_state(np.random.default_rng(number), python_random.Random(number))
        result = pipeline(image=np.repeat(mask[:, :, None], 3, axis=2), mask=mask)
        assert np.abs(result["image"][:, :, 1].astype(int) - result["mask"]).max() <= 2
        moved += result["mask"].shape != mask.shape or (result["mask"] != mask).any()
    assert moved > 150


def test_the_mask_still_fits_after_everything() -> None:
    augmentation = Augmentation("full", 32)
    image, mask = disc(4)
    correlations = []
    for number in range(100):
        changed, moved = augmentation(image, mask, random_stream(number))
        grey = changed.astype(float).max(axis=2)
        correlations.append(abs(np.corrcoef(grey.ravel(), moved.astype(float).ravel())[0, 1]))
    assert np.median(correlations) > 0.9
    assert np.mean(np.array(correlations) > 0.5) > 0.85


def test_flips_only_flip() -> None:
    augmentation = Augmentation("flips", 32)
    image, mask = disc(5)
    image[:, :4] = 255
    seen = set()
    for number in range(20):
        changed, moved = augmentation(image, mask, random_stream(number))
        flipped = not np.array_equal(changed, image)
        seen.add(flipped)
        np.testing.assert_array_equal(changed, image[:, ::-1] if flipped else image)
        np.testing.assert_array_equal(moved, mask[:, ::-1] if flipped else mask)
    assert seen == {True, False}


def test_random_choices_do_not_go_together() -> None:
    """If every transform drew the same numbers, all that rarer ones change would be flipped."""
    augmentation = Augmentation("full", 32)
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, :16] = (250, 60, 20)
    mask = np.zeros((32, 32), np.uint8)
    mask[:, :16] = 255
    outcomes = set()
    for number in range(120):
        changed, moved = augmentation(image, mask, random_stream(number))
        flipped = moved[:, 24:].mean() > moved[:, :8].mean()
        grey = (changed.max(axis=2).astype(int) - changed.min(axis=2)).mean() < 3
        outcomes.add((bool(flipped), bool(grey)))
    assert len(outcomes) == 4


def test_none_is_an_area_average() -> None:
    image, mask = disc(6, 64)
    changed, moved = Augmentation("none", 32)(image, mask, random_stream(0))
    expected = image.astype(float).reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    assert np.abs(changed - expected).max() <= 1
    assert np.abs(moved - mask.astype(float).reshape(32, 2, 32, 2).mean(axis=(1, 3))).max() <= 1
