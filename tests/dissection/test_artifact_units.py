import pytest
import torch
from lightning_fabric import Fabric

from saliency_gan.config import DissectConfig
from saliency_gan.dissection import artifact_units
from saliency_gan.dissection.artifact_units import first_order, measure_artifacts
from saliency_gan.dissection.sampling import Sampler
from saliency_gan.errors import UserError
from saliency_gan.runs.random_streams import random_stream
from saliency_gan.saliency.model import load_model
from tests.dissection.worlds import SQUARE, SquareWorld


class HatesSquares(torch.nn.Module):
    """A critic to whom a white square is unreal, and to whom stripes are real."""

    def forward(self, images, classes):
        square = images[:, 0, *SQUARE].mean((1, 2))
        return 4 * images[:, 0, ::2, :4].mean((1, 2)) - 5 * square


@pytest.fixture
def sampler():
    return Sampler(SquareWorld().freeze(), ["painter"], Fabric(accelerator="cpu", devices=1), seed=0, among=None)


def config(tmp_path, **changes):
    settings = {"units": 3, "artifact_images": 16, "generator": "squares"} | changes
    return DissectConfig(run=tmp_path, device="cpu", **settings)


def test_the_unit_that_paints_what_is_unreal_is_found(sampler, tmp_path, monkeypatch):
    monkeypatch.setattr(artifact_units, "find_discriminator", lambda *_: HatesSquares())
    found = measure_artifacts(config(tmp_path), sampler, load_model(), tmp_path)
    assert found["layer"] == "painter" and found["units"] == [3] and found["ranked_by"] == "discriminator"
    verified = found["verified"]["discriminator"]
    latents, classes = sampler.subjects(range(4_000_000, 4_000_032))
    images = sampler.generator(latents, classes)
    off = torch.cat([-torch.ones(32, 1), latents[:, 1:]], dim=1)
    without = sampler.generator(off, classes)  # the latents that paint no square
    critic = HatesSquares()
    assert verified["before"] == pytest.approx(critic(images, classes).mean().item(), abs=1e-5)
    assert verified["after"] == pytest.approx(critic(without, classes).mean().item(), abs=1e-5)
    assert verified["low"] < verified["improvement"] < verified["high"] and verified["low"] > 0
    assert list(found["verified"]) == ["discriminator"] and (tmp_path / "artifacts.png").is_file()


class Planes(SquareWorld):
    """The first three numbers of z are the colour of the image."""

    def forward(self, latents, classes):
        return 0.1 * self.painter(latents[:, :, None, None].expand(-1, -1, 16, 16))[:, :3]


def test_the_first_order_score_is_exact_where_realism_is_linear():
    world = Planes().freeze()
    sampler = Sampler(world, ["painter"], Fabric(accelerator="cpu", devices=1), seed=0, among=None)
    latents, classes = sampler.subjects(range(40))
    tint = torch.tensor([1.0, -2.0, 3.0])

    def realism(images, _):
        return images.mean((2, 3)) @ tint

    scores = first_order(sampler, realism, latents, classes)["painter"]
    torch.testing.assert_close(scores[:3], -0.1 * tint * latents[:, :3].mean(0))
    assert scores[3:].tolist() == [0, 0, 0]


def test_photos_alone_rank_units_as_well(sampler, tmp_path, monkeypatch):
    monkeypatch.setattr(artifact_units, "find_discriminator", lambda *_: None)
    black = torch.randint(0, 3, (8, 16, 16, 3), generator=random_stream(1), dtype=torch.uint8).numpy()
    monkeypatch.setattr(artifact_units, "read_photos", lambda *_: black)
    found = measure_artifacts(config(tmp_path, real=tmp_path), sampler, load_model(), tmp_path)
    assert found["ranked_by"] == "feature distance" and found["units"][0] == 3
    row = found["verified"]["feature distance"]
    assert row["after"] < row["before"] and row["low"] > 0
    assert row["improvement"] == pytest.approx(row["before"] - row["after"], rel=1e-3)


def test_nothing_to_compare_with_leaves_it_out(sampler, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(artifact_units, "find_discriminator", lambda *_: None)
    assert measure_artifacts(config(tmp_path), sampler, load_model(), tmp_path) is None
    assert "no discriminator beside squares" in capsys.readouterr().out


def test_settings_are_checked_before_anything_is_computed(tmp_path):
    with pytest.raises(UserError, match="artifact_images is 4, but has to be 8 or more"):
        config(tmp_path, artifact_images=4).check()
    with pytest.raises(UserError, match="FID needs --fid_weights FILE"):
        config(tmp_path, fid_weights=tmp_path / "none.pth").check()
