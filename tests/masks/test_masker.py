"""Rules of all kinds on one generator: discs whose mask is a unit, and whose ground a direction brightens."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from saliency_gan.config import MasksConfig
from saliency_gan.errors import UserError
from saliency_gan.generators.units import ablate
from saliency_gan.masks import candidates, synthesis
from saliency_gan.masks.candidates import CandidateSource, draw_latents
from saliency_gan.masks.filters import intersection_over_union
from saliency_gan.masks.synthesis import synthesise
from saliency_gan.results.painters import Painter, Painters
from saliency_gan.storage.files import write_json
from tests.jobs import run_job

from .discs import DiscGenerator, save_directions
from .test_synthesis import contents

THREE = ("threshold", "lighting", "units")


class PaintedDiscs(DiscGenerator):
    """Unit 0 paints the disc; unit 1 is on in its left half alone."""

    def __init__(self) -> None:
        super().__init__()
        self.painter = nn.Identity()

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        inside = self.object_masks(latents, classes).float()
        half = inside.clone()
        half[:, :, 16:] = 0
        painted = self.painter(torch.stack([inside, half], dim=1))[:, :1]
        ground = (0.5 * latents[:, 0]).clamp(-1, 1)[:, None, None, None]
        return (painted * 0.1 + (1 - painted) * ground).expand(-1, 3, -1, -1)

    @property
    def feature_layers(self) -> dict[str, nn.Module]:
        return {"painter": self.painter}


@pytest.fixture
def painted(config: MasksConfig, monkeypatch: pytest.MonkeyPatch) -> PaintedDiscs:
    """Makes masks load it; the run has a dissection in which unit 1 paints the object."""
    generator = PaintedDiscs().freeze()
    monkeypatch.setattr(candidates, "load_chosen", lambda _: generator)
    save_painters(config.run, generator, {1: 0.9})
    return generator


def save_painters(run: Path, generator: DiscGenerator, qualities: dict[int, float]) -> None:
    """Saves a dissection in which these units paint the object, with these qualities."""
    units = tuple(Painter("painter", unit, "object", 0.5, quality) for unit, quality in qualities.items())
    painters = Painters("disc", units)
    found = {"generator": {"name": generator.name, "sha256": generator.sha256}, "painters": painters.to_plain()}
    write_json(run / "dissect" / "dissection.json", found)


def masks(config: MasksConfig, count: int = 30) -> np.ndarray:
    return np.stack([one.mask for one in islice(CandidateSource(config).stream(), count)])


def test_a_consensus_is_the_majority_of_its_rules(config: MasksConfig, painted: PaintedDiscs):
    alone = {rule: masks(replace(config, rule=rule)) for rule in THREE}
    votes = sum(found.astype(int) for found in alone.values())
    for quorum, needed in ((None, 2), (1, 1), (2, 2), (3, 3)):
        np.testing.assert_array_equal(
            masks(replace(config, rule="consensus", consensus=THREE, quorum=quorum)), votes >= needed
        )
    pair = masks(replace(config, rule="consensus"))
    np.testing.assert_array_equal(pair, alone["threshold"] & alone["units"])
    assert not np.array_equal(alone["threshold"], alone["units"])


def test_a_consensus_is_rejected_by_the_mean_iou_of_its_rules(config: MasksConfig, painted: PaintedDiscs):
    config = replace(config, rule="consensus", consensus=THREE, min_area=0.0, max_area=1.0, max_border=1.0, quorum=1)
    parts = [masks(replace(config, rule=rule, min_agreement=0.0)) for rule in THREE]
    found = list(islice(CandidateSource(replace(config, min_agreement=0.5)).stream(), 30))
    for candidate, *three in zip(found, *parts, strict=True):
        one, two, last = three
        mean = np.mean([intersection_over_union(*pair) for pair in ((one, two), (one, last), (two, last))])
        assert candidate.rejected_by == (None if mean >= 0.5 else "min_agreement")
    assert len({candidate.rejected_by for candidate in found}) == 2


@pytest.mark.parametrize(
    ("settings", "drawn"),
    [
        ({"rule": "units"}, 1),
        ({"rule": "units", "two_peaks": True}, 2),
        ({"rule": "units", "min_agreement": 0.1}, 2),
        ({"rule": "consensus"}, 2),
        ({"rule": "consensus", "consensus": ("units", "two-sided")}, 3),
    ],
)
def test_only_what_the_rules_look_at_is_drawn(
    config: MasksConfig, painted: PaintedDiscs, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], drawn: int
):
    forward, calls = painted.forward, []
    monkeypatch.setattr(painted, "forward", lambda *given: calls.append(given[0]) or forward(*given))
    source = CandidateSource(replace(config, shift=2.5, **settings))
    source.look([4, 7])
    for call, shift in zip(calls, (0, 2.5, -2.5), strict=False):
        torch.testing.assert_close(call, calls[0] + torch.tensor([shift, 0, 0, 0]))
    assert len(calls) == drawn
    assert ("directions_sha256" in source.identity) == (drawn > 1) and "painters_sha256" in source.identity


@pytest.mark.parametrize(("rule", "margin"), [("lighting", 0.15), ("difference", 0.4)])
def test_background_gains_more_than_the_margin_of_the_settings(
    config: MasksConfig, disc: DiscGenerator, rule: Any, margin: float
):
    config = replace(config, rule=rule, shift=1.0, margin=margin)
    latents, classes = draw_latents(disc, config.seed, range(30))
    ground = latents[:, 0].double().numpy()
    bright, dark = ((0.5 * shifted).clip(-1, 1) for shifted in (ground + 1, ground - (rule == "difference")))
    gains = (bright - dark) / 2  # a quarter for each 1 of z, and less where the ground becomes white or black
    truth = disc.object_masks(latents, classes).numpy() | (gains <= margin)[:, None, None]
    np.testing.assert_array_equal(masks(config), truth)
    assert (gains > margin).any() and ((gains > 0) & (gains <= margin)).any()


@pytest.mark.parametrize(("votes", "left_alone"), [(0.5, False), (0.7, True)])
def test_objects_have_more_votes_than_the_settings_ask_for(
    config: MasksConfig, painted: PaintedDiscs, votes: float, left_alone: bool
):
    save_painters(config.run, painted, {0: 0.6, 1: 0.4})  # so the right half of a disc has .6 of the votes
    truth = painted.object_masks(*draw_latents(painted, config.seed, range(30))).numpy()
    truth[:, :, 16:] &= not left_alone
    np.testing.assert_array_equal(masks(replace(config, rule="units", votes=votes)), truth)


def test_units_need_no_directions_and_others_no_dissection(config: MasksConfig, painted: PaintedDiscs, tmp_path: Path):
    elsewhere = replace(config, run=tmp_path / "bare", generator="mine.safetensors")
    by_units = replace(elsewhere, rule="units", dissection=config.run / "dissect")
    latents, classes = draw_latents(painted, config.seed, range(30))
    truth = painted.object_masks(latents, classes).numpy()
    truth[:, :, 16:] = False
    np.testing.assert_array_equal(masks(by_units), truth)
    with pytest.raises(UserError, match=r"is neither the discover folder of a run"):
        CandidateSource(replace(by_units, rule="consensus"))
    with pytest.raises(UserError, match=r"dissection.json does not exist.*run dissect first"):
        CandidateSource(replace(config, rule="units", dissection=tmp_path))
    (config.run / "dissect" / "dissection.json").unlink()
    masks(config)


def test_directions_and_painters_of_the_whole_generator_serve_the_repaired_one(
    config: MasksConfig, painted: PaintedDiscs
):
    config = replace(config, rule="consensus")
    before = CandidateSource(config).identity
    ablate(painted, ["painter:0"])
    source = CandidateSource(config)
    assert source.identity["generator"] != before["generator"]
    assert source.identity["generator"]["name"] == "disc without units (1 of painter)"
    assert {**source.identity, "generator": 0} == {**before, "generator": 0}
    assert not any(one.mask.any() for one in islice(source.stream(), 12) if one.class_name == "disc")
    save_directions(config.run / "discover", painted)
    assert CandidateSource(config).identity["directions_sha256"]


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("votes", 1.0, "from 0 to below 1"),
        ("consensus", ("units",), "two or more different rules"),
        ("consensus", ("units", "units"), "two or more different rules"),
        ("quorum", 0, "from 1 to 2"),
        ("quorum", 3, "from 1 to 2"),
    ],
)
def test_settings_out_of_range_are_refused(config: MasksConfig, setting: str, value: Any, expected: str):
    with pytest.raises(UserError, match=rf"--{setting} is .*, but has to be {expected}"):
        CandidateSource(replace(config, **{setting: value}))


def _synthesise(config: MasksConfig) -> None:
    candidates.load_chosen = lambda _: PaintedDiscs().freeze()
    synthesis.synthesise(config)


def test_two_processes_write_the_bytes_of_one(config: MasksConfig, painted: PaintedDiscs):
    config = replace(config, rule="consensus", consensus=THREE, pairs=30)
    alone = replace(config, run=config.run.parent / "alone", directions=config.run / "discover")
    alone = replace(alone, dissection=config.run / "dissect")
    expected = contents(synthesise(alone))
    run_job(_synthesise, config)
    found = contents(config.run / "masks")
    assert found == expected
