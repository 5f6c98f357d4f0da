"""Stability: IoU of the mask with the mask at half of the shift."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from saliency_gan.config import MasksConfig
from saliency_gan.errors import UserError
from saliency_gan.masks.candidates import draw_latents
from saliency_gan.masks.shards import open_shards
from saliency_gan.masks.synthesis import synthesise
from saliency_gan.results.directions import BackgroundDirection, Directions
from tests.masks.reading import read_all

from .discs import DiscGenerator

SHIFT, ENOUGH = 12.0, 0.9


def iou(one: Tensor, other: Tensor) -> np.ndarray:
    """By the definition, for each image."""
    return ((one & other).sum((1, 2)) / (one | other).sum((1, 2))).numpy()


@pytest.fixture
def changing(config: MasksConfig, disc: DiscGenerator) -> tuple[MasksConfig, Tensor]:
    """Settings of a run whose h_bg also changes the discs' radius, and h_bg."""
    vector = torch.tensor([1.0, 0.0, 0.0, 0.2])
    vector /= vector.norm()
    owner = {"name": disc.name, "sha256": disc.sha256}
    background = BackgroundDirection(0, 1, SHIFT, "bright")
    Directions(torch.eye(disc.latent_dim), vector, background, owner).save(config.run / "discover")
    return replace(config, classes=("disc",), pairs=20, opening=0, fill_holes=False, min_component=0.0), vector


@pytest.mark.parametrize("rule", ["threshold", "two-sided"])
def test_objects_that_change_along_the_shift_are_rejected(
    changing: tuple[MasksConfig, Tensor], disc: DiscGenerator, rule: str
) -> None:
    config, vector = changing
    shards = open_shards(synthesise(replace(config, rule=rule, min_stability=ENOUGH)))
    last = shards.manifest["candidates"]
    latents, classes = draw_latents(disc, config.seed, range(last), [0])

    def masks(shift: float) -> Tensor:
        return disc.object_masks(latents + shift * vector, classes)

    whole, half = masks(SHIFT), masks(SHIFT / 2)
    if rule == "two-sided":  # grounds are bright at +h and dark at -h, and the object is neither
        whole, half = whole & masks(-SHIFT), half & masks(-SHIFT / 2)
    steady = iou(whole, half) >= ENOUGH
    assert 0.2 < steady.mean() < 0.9
    assert [info["seed"] for info in read_all(shards)[2]] == np.flatnonzero(steady).tolist()
    assert shards.manifest["rejections"] == {"min_stability": int((~steady).sum())}


def test_without_the_check_every_pair_is_accepted(changing: tuple[MasksConfig, Tensor]) -> None:
    assert open_shards(synthesise(changing[0])).manifest["rejections"] == {}


def test_a_rule_without_a_shift_has_no_stability(config: MasksConfig) -> None:
    with pytest.raises(UserError, match=r"--min_stability is 0\.5, but has to be 0 for a rule without a shift"):
        replace(config, rule="units", min_stability=0.5).check()
    for other in ({"two_peaks": True}, {"min_agreement": 0.1}):  # they need shifted images, but the mask does not
        with pytest.raises(UserError, match="0 for a rule without a shift"):
            replace(config, rule="units", min_stability=0.5, **other).check()
    replace(config, rule="consensus", min_stability=0.5).check()


@pytest.mark.parametrize("shift", [0.0, -3.0])
def test_a_shift_that_leads_nowhere_or_the_other_way_is_refused(config: MasksConfig, shift: float) -> None:
    with pytest.raises(UserError, match=f"--shift is {shift}, but has to be above 0"):
        replace(config, shift=shift).check()
