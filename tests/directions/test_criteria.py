import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saliency_gan.directions.criteria import (
    CRITERIA,
    border,
    centre,
    combine,
    gradient_magnitude,
    measure_criteria,
)


def scene(background: float, disc: float, side: int = 32, clutter: float = 0.0) -> torch.Tensor:
    """A striped disc on a background with or without clutter, [1, 3, side, side] in [-1, 1]."""
    ys, xs = np.mgrid[:side, :side] / (side - 1) - 0.5
    inside = xs**2 + ys**2 < 0.09
    stripes = np.where(np.arange(side)[:, None] % 4 < 2, 0.15, -0.15)
    grey = np.where(inside, disc + stripes, background + clutter * np.sign(np.sin(40 * xs)))
    return torch.tensor(grey, dtype=torch.float32).mul(2).sub(1).expand(1, 3, side, side)


def by_hand(original: np.ndarray, shifted: np.ndarray, theta: float) -> dict[str, float]:
    """The parts of one image in float64, from grey images in [0, 1], pixel by pixel."""
    side = len(original)
    width, margin = side // 8, side // 4
    frame = [
        (y, x)
        for y in range(side)
        for x in range(side)
        if not (width <= y < side - width and width <= x < side - width)
    ]
    before, after = [original[p] for p in frame], [shifted[p] for p in frame]
    level = sum(after) / len(after)
    inner = slice(margin, side - margin)

    def edges(grey: np.ndarray) -> np.ndarray:
        dx, dy = (
            cv2.Sobel(grey, cv2.CV_64F, *order, scale=1 / 8, borderType=cv2.BORDER_REPLICATE)
            for order in ((1, 0), (0, 1))
        )
        return np.hypot(dx, dy)

    mask = shifted < theta
    area = mask.mean()
    old, new = edges(original[inner, inner]), edges(shifted[inner, inner])
    kept = np.minimum(old, new).sum() / old.sum()
    outline = np.array(
        [
            [len(set(mask[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].ravel())) == 2 for x in range(side)]
            for y in range(side)
        ]
    )
    on, off = edges(original)[outline].mean(), edges(original)[~outline].mean()
    clear = sum(value >= theta for value in after) / len(after) >= 0.8
    return {
        "border": level,
        "flat": 1 - 2 * math.sqrt(sum((value - level) ** 2 for value in after) / len(after)),
        "gained": sum(np.subtract(after, before)),
        "missing": sum(1 - value for value in before),
        "contrast": level - shifted[inner, inner].mean(),
        "edges": kept,
        "outline": on / (on + off),
        "area": float(0.05 <= area <= 0.6),
        "works": float(0.05 <= area <= 0.6 and clear and kept >= 0.5),
    }


@pytest.mark.parametrize("polarity", ["bright", "dark"])
def test_parts_match_a_float64_loop(polarity):
    random = torch.Generator().manual_seed(0)
    originals = torch.rand(5, 3, 16, 16, generator=random) * 2 - 1
    shifted = torch.rand(2, 5, 3, 16, 16, generator=random) * 2 - 1
    shifted[1] = 0.7 * originals + 0.3
    shifted[1, :, :, :3], shifted[1, :, :, -3:], shifted[1, :, :, :, :3], shifted[1, :, :, :, -3:] = [0.95] * 4
    if polarity == "dark":
        originals, shifted = -originals, -shifted

    def grey(images: torch.Tensor) -> np.ndarray:
        values = images.double().numpy().mean(-3) / 2 + 0.5
        return values if polarity == "bright" else 1 - values

    for parts, images in zip(measure_criteria(originals, shifted, 0.7, polarity), shifted, strict=True):
        rows = [by_hand(one, other, 0.7) for one, other in zip(grey(originals), grey(images), strict=True)]
        for name in ("border", "flat", "contrast", "edges", "outline", "area", "works"):
            assert parts[name] == pytest.approx(max(0, np.mean([row[name] for row in rows])), abs=1e-5), name
        gain = sum(row["gained"] for row in rows) / sum(row["missing"] for row in rows)
        assert parts["gain"] == pytest.approx(max(0, gain), abs=1e-5)
        assert parts["steady"] == pytest.approx(1 - 2 * np.std([row["border"] for row in rows]), abs=1e-5)


def test_gain_is_the_share_of_missing_brightness():
    before, after = scene(0.4, 0.3), scene(0.85, 0.3)
    parts = measure_criteria(before, after[None], 0.9, "bright")[0]
    assert parts["gain"] == pytest.approx((0.85 - 0.4) / 0.6, abs=1e-5)
    assert measure_criteria(after, before[None], 0.9, "bright")[0]["gain"] == 0


def test_good_shift_beats_every_bad_one():
    original = scene(0.45, 0.4, clutter=0.1)
    good = scene(0.97, 0.4)
    bad = {
        "nothing changes": original,
        "all turns white": scene(0.99, 0.99).clamp(max=0.97),
        "all turns dark": torch.full_like(original, -0.95),
        "the object goes too": torch.full_like(original, 0.96),
        "the background stays cluttered": scene(0.7, 0.4, clutter=0.25),
    }

    def score(shifted: torch.Tensor, polarity: str) -> float:
        return combine(measure_criteria(original, shifted[None], 0.9, polarity)[0])

    assert score(good, "bright") > 0.7
    assert score(good, "dark") < 0.25
    for name, shifted in bad.items():
        assert max(score(shifted, "bright"), score(shifted, "dark")) < 0.45, name


def test_polarities_mirror_each_other():
    original, shifted = scene(0.45, 0.5, clutter=0.1), scene(0.95, 0.5)
    bright = measure_criteria(original, shifted[None], 0.9, "bright")[0]
    dark = measure_criteria(-original, -shifted[None], 0.9, "dark")[0]
    assert bright == pytest.approx(dark, abs=1e-5)


def test_every_part_is_named_and_in_range():
    random = torch.Generator().manual_seed(1)
    for parts in measure_criteria(
        torch.randn(3, 1, 16, 16, generator=random), torch.randn(4, 3, 1, 16, 16, generator=random), 0.9, "dark"
    ):
        assert list(parts) == list(CRITERIA)
        assert all(0 <= value <= 1 for value in parts.values())


def test_regions():
    grey = torch.arange(64.0).reshape(8, 8)
    assert border(grey).tolist() == [value for value in range(64) if value // 8 in (0, 7) or value % 8 in (0, 7)]
    assert centre(grey).tolist() == grey[2:6, 2:6].tolist()


def test_gradient_of_a_ramp_is_its_slope():
    ramp = torch.linspace(0, 1, 11).repeat(11, 1)
    magnitude = gradient_magnitude(ramp)
    assert torch.allclose(magnitude[1:-1, 1:-1], torch.full((9, 9), 0.1), atol=1e-5)
    assert torch.allclose(gradient_magnitude(ramp.T), magnitude.T, atol=1e-6)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9), st.integers(0, 8), st.floats(0, 1))
def test_combined_score_is_a_bounded_monotone_mean(values, place, higher):
    parts = {str(number): value for number, value in enumerate(values)}
    score = combine(parts)
    assert max(min(values), 0.01) - 1e-9 <= score <= max(*values, 0.01) + 1e-9
    name = str(place % len(values))
    assert combine(parts | {name: max(higher, parts[name])}) >= score - 1e-12


def test_combined_score_is_the_geometric_mean():
    assert combine({"a": 0.5, "b": 0.25, "c": 1.0}) == pytest.approx(0.125 ** (1 / 3))
    assert combine({"a": 0.0, "b": 1.0}) == pytest.approx(0.1)
