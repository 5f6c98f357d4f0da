from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saliency_gan.config import MasksConfig
from saliency_gan.errors import UserError
from saliency_gan.generators.biggan import BigGAN, BigGANArchitecture
from saliency_gan.generators.zoo import save_generator
from saliency_gan.images.tensors import to_uint8
from saliency_gan.masks.candidates import Candidate, CandidateSource, draw_latents
from saliency_gan.runs.random_streams import random_stream
from saliency_gan.storage.files import sha256_of

from .discs import DiscGenerator, save_directions


def first(config: MasksConfig, count: int, start: int = 0) -> list[Candidate]:
    return list(islice(CandidateSource(config).stream(start), count))


def assert_equal(one: Candidate, other: Candidate) -> None:
    assert (one.number, one.class_name, one.rejected_by) == (other.number, other.class_name, other.rejected_by)
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.mask, other.mask)


def test_a_candidate_is_the_image_and_the_mask_of_its_number(config: MasksConfig, disc: DiscGenerator):
    found = first(config, 20)
    latents, classes = draw_latents(disc, config.seed, range(20))
    images, masks = to_uint8(disc(latents, classes)), disc.object_masks(latents, classes).numpy()
    assert [candidate.number for candidate in found] == list(range(20))
    for candidate, image, mask, label in zip(found, images, masks, classes, strict=True):
        assert not candidate.image.size if candidate.rejected_by else (candidate.image == image).all()
        np.testing.assert_array_equal(candidate.mask, mask)
        assert candidate.class_name == disc.class_names[label]
        assert candidate.rejected_by == [None, "max_area", "min_area"][label]


@pytest.mark.parametrize("start", [1, 5, 6, 13])
def test_a_candidate_does_not_depend_on_where_the_stream_began(config: MasksConfig, start: int):
    for one, other in zip(first(config, 20)[start:], first(config, 20 - start, start), strict=True):
        assert_equal(one, other)


def test_a_candidate_does_not_depend_on_the_batch(config: MasksConfig):
    for one, other in zip(first(config, 20), first(replace(config, batch=17), 20), strict=True):
        assert_equal(one, other)


def test_seeds_and_numbers_draw_different_latents(disc: DiscGenerator):
    latents = torch.cat([draw_latents(disc, seed, range(50))[0] for seed in (0, 1)])
    assert len(latents.unique(dim=0)) == 100
    assert abs(latents.mean()) < 0.2 and abs(latents.std() - 1) < 0.2


def test_only_the_classes_asked_for_are_drawn(config: MasksConfig):
    found = first(replace(config, classes=("disc", 2)), 30)
    assert {candidate.class_name for candidate in found} == {"disc", "empty"}


@pytest.mark.parametrize(
    ("rule", "drawn"), [("threshold", [+1]), ("lighting", [0, +1]), ("difference", [+1, -1]), ("two-sided", [+1, -1])]
)
def test_only_the_images_that_the_rule_looks_at_are_drawn(
    config: MasksConfig, disc: DiscGenerator, monkeypatch: pytest.MonkeyPatch, rule: Any, drawn: list[int]
):
    forward, calls = disc.forward, []
    monkeypatch.setattr(disc, "forward", lambda latents, classes: calls.append(latents) or forward(latents, classes))
    seen = CandidateSource(replace(config, rule=rule, shift=2.5)).look([4, 7])
    latents, _ = draw_latents(disc, config.seed, [4, 7])
    assert len(calls) == len(drawn)
    for call, sign in zip(calls, drawn, strict=True):
        torch.testing.assert_close(call, latents + sign * torch.tensor([2.5, 0, 0, 0]))
    assert [part is not None for part in (seen.plain, seen.plus, seen.minus)] == [one in drawn for one in (0, +1, -1)]


def test_later_images_are_drawn_only_for_candidates_that_passed_the_earlier_checks(
    config: MasksConfig, disc: DiscGenerator, monkeypatch: pytest.MonkeyPatch
):
    forward, calls = disc.forward, []
    monkeypatch.setattr(disc, "forward", lambda latents, classes: calls.append(classes) or forward(latents, classes))
    source = CandidateSource(replace(config, batch=30, min_stability=0.9))
    found = list(islice(source.stream(), 30))
    shifted, half, plain = calls
    assert len(shifted) == 30
    assert len(half) == sum(one.rejected_by in (None, "min_stability") for one in found) < 30
    assert len(plain) == sum(one.rejected_by is None for one in found) > 0


def test_the_second_rule_and_the_peaks_are_checked(config: MasksConfig, disc: DiscGenerator):
    """In plain white images of a disc, the shift changes nothing, so the lighting rule takes all for object."""
    agreeing = first(replace(config, min_agreement=0.9, seed=3), 60)
    images = to_uint8(disc(*draw_latents(disc, 3, range(60))))
    assert {candidate.rejected_by for candidate in agreeing} == {None, "min_area", "max_area", "min_agreement"}
    for candidate, image in zip(agreeing, images, strict=True):
        ground_is_white = image[0, 0, 0] == 255
        if candidate.class_name == "disc":
            assert candidate.rejected_by == ("min_agreement" if ground_is_white else None)
    peaks = first(replace(config, two_peaks=True, max_area=1.0, max_border=1.0), 30)
    assert {(candidate.class_name, candidate.rejected_by) for candidate in peaks} == {
        ("disc", None), ("full", "two_peaks"), ("empty", "min_area")
    }  # fmt: skip


def test_bf16_hardly_changes_masks(tmp_path: Path):
    generator = BigGAN(BigGANArchitecture(16, 12, 3, 4, (16, 12, 8)))
    generator.initialise(random_stream(0))
    save_generator(generator, tmp_path / "tiny.safetensors")
    config = MasksConfig(run=tmp_path / "run", generator=str(tmp_path / "tiny.safetensors"), device="cpu", theta="otsu")
    generator.sha256 = sha256_of(tmp_path / "tiny.safetensors")
    save_directions(tmp_path / "run" / "discover", generator)
    exact = np.stack([candidate.mask for candidate in first(replace(config, precision="fp32"), 64)])
    mixed = np.stack([candidate.mask for candidate in first(replace(config, precision="bf16"), 64)])
    assert 0.02 < exact.mean() < 0.98
    assert 0 < (exact != mixed).mean() < 0.02


def test_directions_of_another_generator_are_refused(config: MasksConfig, disc: DiscGenerator):
    disc.sha256 = "e" * 64
    with pytest.raises(UserError, match="belong to generator disc"):
        CandidateSource(config)


def test_missing_directions_are_named(config: MasksConfig, tmp_path: Path):
    with pytest.raises(UserError, match=r"nowhere is neither the discover folder"):
        CandidateSource(replace(config, directions=tmp_path / "nowhere"))


def test_an_unknown_class_is_refused(config: MasksConfig):
    with pytest.raises(UserError, match=r"'dics'.*did you mean 'disc'"):
        CandidateSource(replace(config, classes=("dics",)))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("pairs", 0),
        ("batch", 0),
        ("shard_size", 0),
        ("theta", 0.0),
        ("theta", 1.5),
        ("margin", -0.1),
        ("max_area", 0.01),
        ("opening", 4),
        ("opening", -1),
        ("min_component", 1.1),
        ("max_border", -0.5),
        ("min_agreement", 2.0),
    ],
)
def test_settings_out_of_range_are_refused(config: MasksConfig, setting: str, value: Any):
    with pytest.raises(UserError, match=rf"--{setting} is {value}, but has to be"):
        CandidateSource(replace(config, **{setting: value}))
