import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from saliency_gan.images.brightness import brightness
from saliency_gan.masks.rules import (
    SHIFTS,
    Evidence,
    consensus,
    lighting,
    object_masks,
    threshold,
    two_sided,
    units,
)


def images(seed: int, count: int = 4, side: int = 12) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def grey(batch: Tensor) -> NDArray[np.float64]:
    """The reference: mean of the colours in [0, 1], in float64."""
    return ((batch.double().numpy() + 1) / 2).mean(axis=1)


def greys(seed: int, count: int = 30) -> NDArray[np.uint8]:
    """Images of two blurred greys, of one, and of noise."""
    random = np.random.default_rng(seed)
    pictures = []
    for index in range(count):
        low, high = np.sort(random.integers(0, 256, 2))
        picture = np.where(random.random((24, 24)) < random.uniform(0.05, 0.95), low, high).astype(np.float64)
        noise = random.normal(0, [0, 3, 15, 60][index % 4], picture.shape)
        pictures.append((picture + noise).clip(0, 255).astype(np.uint8))
    return np.stack(pictures)


@pytest.mark.parametrize("theta", [0.3, 0.5, 0.7])
def test_threshold_is_the_papers_formula(theta: float):
    plain, plus = images(1), images(2)
    np.testing.assert_array_equal(
        object_masks("threshold", Evidence(plain, plus), theta=theta).numpy(), grey(plus) < theta
    )


def test_threshold_towards_dark_is_its_mirror_image():
    plain, plus = images(1), images(2)
    mask = object_masks("threshold", Evidence(plain, plus), theta=0.7, polarity="dark")
    np.testing.assert_array_equal(mask.numpy(), grey(plus) > 1 - 0.7)


def test_what_the_shift_lights_up_is_background():
    plain, plus = images(1), images(2)
    np.testing.assert_array_equal(object_masks("lighting", Evidence(plain, plus)).numpy(), ~(grey(plain) < grey(plus)))
    np.testing.assert_array_equal(
        object_masks("lighting", Evidence(plain, plus), polarity="dark").numpy(), ~(grey(plus) < grey(plain))
    )


def test_background_gains_more_than_the_margin():
    plain, plus = images(1), images(2)
    np.testing.assert_array_equal(
        object_masks("lighting", Evidence(plain, plus), margin=0.15).numpy(), grey(plus) - grey(plain) <= 0.15
    )


def test_difference_compares_both_signs_and_not_the_original():
    plain, plus, minus = images(1), images(2), images(3)
    expected = ~(grey(minus) < grey(plus))
    np.testing.assert_array_equal(object_masks("difference", Evidence(plain, plus, minus)).numpy(), expected)
    np.testing.assert_array_equal(object_masks("difference", Evidence(images(9), plus, minus)).numpy(), expected)


def test_two_sided_needs_the_agreement_of_both_signs():
    plain, plus, minus = images(1), images(2), images(3)
    np.testing.assert_array_equal(
        object_masks("two-sided", Evidence(plain, plus, minus), theta=0.6).numpy(),
        (grey(plus) < 0.6) & (grey(minus) > 0.4),
    )
    np.testing.assert_array_equal(
        object_masks("two-sided", Evidence(plain, plus, minus), theta=0.6, polarity="dark").numpy(),
        (grey(plus) > 0.4) & (grey(minus) < 0.6),
    )


@pytest.mark.parametrize("rule", ["difference", "two-sided"])
def test_rules_of_both_signs_need_both(rule: str):
    assert SHIFTS[rule] == (1, -1)  # type: ignore[index]
    with pytest.raises(ValueError, match="G\\(z - h_bg, c\\)"):
        object_masks(rule, Evidence(images(1), images(2)))  # type: ignore[arg-type]


def test_otsu_separates_as_opencv_does():
    pictures = greys(0)
    masks = threshold(torch.from_numpy(pictures) / 255, "otsu").numpy()
    for picture, mask in zip(pictures, masks, strict=True):
        level, _ = cv2.threshold(picture, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        np.testing.assert_array_equal(mask, picture <= level)


def test_otsu_of_one_grey_finds_no_object():
    assert not threshold(torch.full((1, 8, 8), 0.5), "otsu").any()


def test_otsu_applies_to_the_gain_of_the_lighting_rule():
    before, after = greys(2), greys(3)
    masks = lighting(torch.from_numpy(before) / 255, torch.from_numpy(after) / 255, None).numpy()
    for dark, light, mask in zip(before, after, masks, strict=True):
        gain = np.round((light.astype(np.float32) / 255 - dark.astype(np.float32) / 255 + 1) / 2 * 255).astype(np.uint8)
        level, _ = cv2.threshold(gain, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        np.testing.assert_array_equal(mask, gain <= level)


def test_otsu_applies_to_each_sign_of_the_two_sided_rule():
    plus, minus = torch.from_numpy(greys(4)) / 255, torch.from_numpy(greys(5)) / 255
    both = threshold(plus, "otsu") & threshold(1 - minus, "otsu")
    assert torch.equal(two_sided(plus, minus, "otsu"), both) and both.any() and not both.all()


def test_otsu_replaces_theta_and_margin_in_every_rule():
    plain, plus, minus = images(1), images(2), images(3)
    votes = images(4)[:, 0].add(1).div(2)
    for rule in SHIFTS:
        evidence = Evidence(plain, plus, minus, votes)
        one, other = (object_masks(rule, evidence, "otsu", margin) for margin in (0.0, 0.4))
        assert torch.equal(one, other)
        assert not torch.equal(one, object_masks(rule, evidence, 0.9))


def test_units_take_what_has_more_than_a_share_of_the_votes():
    votes = torch.tensor([[[0.0, 0.5], [0.75, 1.0]]])
    evidence = Evidence(images(1), votes=votes)
    assert object_masks("units", evidence).tolist() == [[[False, False], [True, True]]]
    assert object_masks("units", evidence, theta=0.1, votes=0.75).tolist() == [[[False, False], [False, True]]]
    with pytest.raises(ValueError, match="votes of units, which was not drawn"):
        object_masks("units", Evidence(images(1), images(2)))


def test_otsu_separates_the_votes():
    pictures = greys(6)
    for picture, mask in zip(pictures, units(torch.from_numpy(pictures) / 255, None).numpy(), strict=True):
        level, _ = cv2.threshold(picture, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        np.testing.assert_array_equal(mask, picture > level)


@pytest.mark.parametrize(
    ("rules", "quorum", "agreeing"), [(3, None, 2), (3, 3, 3), (3, 1, 1), (2, None, 2), (4, None, 3), (5, None, 3)]
)
def test_a_consensus_is_what_enough_rules_say(rules: int, quorum: int | None, agreeing: int):
    masks = torch.rand(rules, 2, 6, 6, generator=torch.Generator().manual_seed(7)) < 0.6
    expected = [[[sum(column) >= agreeing for column in zip(*rows, strict=True)] for rows in zip(*images, strict=True)]
                for images in zip(*masks.tolist(), strict=True)]  # fmt: skip
    assert consensus(masks, quorum).tolist() == expected


def test_people_are_shown_the_shifted_image_or_else_the_votes():
    plain, plus, votes = images(1), images(2), torch.rand(4, 12, 12)
    assert Evidence(plain, plus, votes=votes).shown is plus
    shown = Evidence(plain, votes=votes).shown
    assert shown.shape == plain.shape
    torch.testing.assert_close(brightness(shown), votes)
