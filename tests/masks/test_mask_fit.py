"""Mask fit: IoU of a mask with what a saliency model marks on the image."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from saliency_gan.config import MasksConfig
from saliency_gan.errors import UserError
from saliency_gan.masks import candidates
from saliency_gan.masks.shards import open_shards
from saliency_gan.masks.synthesis import synthesise
from saliency_gan.saliency.generated import mark_generated
from saliency_gan.saliency.model import SaliencyModel
from tests.masks.discs import DiscGenerator
from tests.masks.reading import read_all
from tests.saliency.toys import TINY_ARCHITECTURE


class LeftHalf(torch.nn.Module):
    """A judge that marks the left half of every image."""

    sha256 = "left"

    def mark(self, images: Tensor) -> Tensor:
        maps = torch.zeros(len(images), *images.shape[-2:])
        maps[..., : images.shape[-1] // 2] = 0.9
        return maps


@pytest.fixture
def judged(config: MasksConfig, monkeypatch: pytest.MonkeyPatch) -> MasksConfig:
    monkeypatch.setattr(candidates, "load_model", lambda path: LeftHalf())
    monkeypatch.setattr(candidates, "mark_generated", lambda model, images: model.mark(images))
    return replace(config, judge=Path("judge"))


def fits_of(masks: np.ndarray) -> np.ndarray:
    """By the definition, pixel by pixel."""
    left = np.zeros(masks.shape[1:], bool)
    left[:, : masks.shape[2] // 2] = True
    return np.array([(mask & left).sum() / (mask | left).sum() for mask in masks > 0])


def test_every_pair_the_manifest_and_the_log_have_the_fit(
    judged: MasksConfig, disc: DiscGenerator, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = open_shards(synthesise(judged))
    _, masks, infos = read_all(shards)
    expected = fits_of(masks)
    assert expected.std() > 0.05
    np.testing.assert_allclose([info["fit"] for info in infos], expected, atol=1e-4)
    fit = shards.manifest["fit"]
    assert fit["mean"] == pytest.approx(expected.mean()) and fit["good_share"] == (expected >= 0.7).mean()
    by_class = {name: one["sum"] for name, one in shards.manifest["fit_by_class"].items()}
    for name, total in by_class.items():
        assert total == pytest.approx(sum(expected[[info["class"] == name for info in infos]]))
    assert shards.manifest["judge_sha256"] == "left"
    assert f"mask fit: mean {expected.mean():.3f}" in capsys.readouterr().out


def test_a_judge_alone_changes_no_pair_and_min_fit_rejects(
    judged: MasksConfig, config: MasksConfig, tmp_path: Path
) -> None:
    plain = open_shards(synthesise(replace(config, directions=config.run / "discover", run=tmp_path / "plain")))
    with_judge = open_shards(synthesise(judged))
    for one, other in zip(read_all(plain)[:2], read_all(with_judge)[:2], strict=True):
        np.testing.assert_array_equal(one, other)
    assert plain.manifest["fit"] == {} and "judge_sha256" not in plain.manifest
    directions, run = judged.run / "discover", tmp_path / "strict"
    strict = open_shards(synthesise(replace(judged, directions=directions, run=run, min_fit=0.3)))
    assert fits_of(read_all(strict)[1]).min() >= 0.3
    assert strict.manifest["rejections"]["min_fit"] > 0


def test_more_pairs_add_to_the_same_sums(judged: MasksConfig, tmp_path: Path) -> None:
    synthesise(replace(judged, pairs=11))
    continued = json.loads((synthesise(judged) / "manifest.json").read_text())
    other = replace(judged, directions=judged.run / "discover", run=tmp_path / "other")
    at_once = json.loads((synthesise(other) / "manifest.json").read_text())
    for name in ("fit", "fit_by_class", "accepted_by_class"):
        assert continued[name] == at_once[name]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_judge_computes_in_the_precision_of_the_run(
    judged: MasksConfig, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    mixed = []

    def mark(model: LeftHalf, images: Tensor) -> Tensor:
        mixed.append(torch.is_autocast_enabled("cpu"))
        return model.mark(images)

    monkeypatch.setattr(candidates, "mark_generated", mark)
    synthesise(replace(judged, precision=precision))
    assert set(mixed) == {precision == "bf16"}


def test_another_judge_or_none_is_refused(judged: MasksConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    synthesise(judged)
    monkeypatch.setattr(LeftHalf, "sha256", "another")
    with pytest.raises(UserError, match="another judge: choose"):
        synthesise(replace(judged, pairs=24))
    with pytest.raises(UserError, match=r"--min_fit is 0\.5, but has to be 0 without a --judge"):
        replace(judged, judge=None, min_fit=0.5).check()


@pytest.mark.parametrize("channels", [1, 3])
def test_generated_images_are_seen_at_twice_their_side(channels: int) -> None:
    torch.manual_seed(0)
    model = SaliencyModel(replace(TINY_ARCHITECTURE, resolution=96)).eval()
    torch.nn.init.normal_(model.network.segmentation_head[0].weight, std=1.0)
    images = torch.rand(2, channels, 24, 24, requires_grad=True)
    maps = mark_generated(model, images * 2 - 1)
    colour = (images * 2 - 1).expand(-1, 3, -1, -1)
    large = F.interpolate(colour, (64, 64), mode="bilinear", antialias=True)  # 48, up to a multiple of 32
    expected = F.interpolate(model(large).sigmoid(), (24, 24), mode="bilinear")[:, 0]
    torch.testing.assert_close(maps, expected)
    maps.sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
