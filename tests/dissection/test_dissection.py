import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from saliency_gan.compute.devices import make_fabric
from saliency_gan.config import DissectConfig
from saliency_gan.dissection import dissect as stage
from saliency_gan.dissection import units
from saliency_gan.dissection.concepts import Appearance, ConceptSource, Joined, Saliency
from saliency_gan.dissection.dissect import dissect
from saliency_gan.dissection.effects import random_sets, regions
from saliency_gan.dissection.interventions import blend, causal_effect, edited, effect_of, optimise_alpha, setting
from saliency_gan.dissection.layers import dissect_layers
from saliency_gan.dissection.sampling import Sampler
from saliency_gan.dissection.units import AgreementCounts, JointCounts, joint_histogram, threshold_candidates
from saliency_gan.errors import UserError
from saliency_gan.images.writing import write_image
from saliency_gan.runs.random_streams import random_stream
from tests.dissection.worlds import SQUARE, SquareWorld


class White(ConceptSource):
    names, kinds = ("white", "black"), ("colour", "colour")

    def __call__(self, images):
        return torch.stack([images[:, 0] > 0.5, images[:, 0] < -0.5], dim=1)


@pytest.fixture
def world():
    return SquareWorld().freeze()


@pytest.fixture
def sampler(world):
    return Sampler(world, ["painter"], Fabric(accelerator="cpu", devices=1), seed=0, among=None)


def features_and_concepts(images=6):
    random = random_stream(0)
    features = torch.randn(images, 4, 5, 5, generator=random)
    noise = torch.rand(images, 3, 10, 10, generator=random)
    large = torch.nn.functional.interpolate(features, (10, 10), mode="bilinear")
    return features, noise < torch.sigmoid(3 * large[:, :3])


def entropy(*shares):
    return -sum(share * np.log(share) for share in shares if share > 0)


def test_thresholds_and_iou_agree_with_brute_force_in_float64():
    features, concepts = features_and_concepts()
    candidates = threshold_candidates(features)
    counts = JointCounts(candidates, 3)
    counts.add(features, concepts)
    chosen, quality = counts.best_thresholds()
    agreement = AgreementCounts(candidates, chosen, random_stream(1))
    agreement.add(features, concepts)
    found = agreement.result()
    large = torch.nn.functional.interpolate(features, (10, 10), mode="bilinear").double().numpy()
    for unit in range(4):
        for concept in range(3):
            present = concepts[:, concept].numpy()
            best = 0.0
            for threshold in candidates[unit].double().numpy():
                above = large[:, unit] > threshold
                both, one, two = (above & present).mean(), above.mean(), present.mean()
                joint = entropy(both, one - both, two - both, 1 - one - two + both)
                shared = entropy(one, 1 - one) + entropy(two, 1 - two) - joint
                if both > one * two and joint > 0:
                    best = max(best, shared / joint)
            assert quality[unit, concept].item() == pytest.approx(best, abs=1e-9)
            above = large[:, unit] > candidates[unit, chosen[unit, concept]].item()
            expected = (above & present).sum() / (above | present).sum()
            assert found.iou[unit, concept].item() == pytest.approx(expected, abs=1e-9)
    assert (found.low <= found.iou).all() and (found.iou <= found.high).all() and (found.low < found.high).any()


def test_batches_add_up_to_one_batch():
    features, concepts = features_and_concepts(7)
    candidates = threshold_candidates(features)
    whole, parts = JointCounts(candidates, 3), JointCounts(candidates, 3)
    whole.add(features, concepts)
    for some in (slice(0, 3), slice(3, 4), slice(4, 7)):
        parts.add(features[some], concepts[some])
    assert torch.equal(whole.all, parts.all) and torch.equal(whole.present, parts.present)
    assert whole.total == 700


def test_units_are_enlarged_in_parts_where_they_are_many(monkeypatch):
    features, concepts = features_and_concepts(7)
    candidates = threshold_candidates(features)
    whole = joint_histogram(features, concepts, candidates)
    monkeypatch.setattr(units, "ENLARGED_VALUES", 3 * concepts[:, 0].numel())
    for found, expected in zip(joint_histogram(features, concepts, candidates), whole, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(("side", "batch"), [(16, 32), (64, 32), (128, 8), (256, 2), (1024, 1)])
def test_fewer_large_images_are_drawn_at_once(side, batch):
    generator = SquareWorld()
    generator.resolution = side
    assert Sampler(generator, (), make_fabric("cpu", "fp32"), 0, None).batch == batch


def test_more_concepts_than_an_integer_has_bits():
    random = random_stream(9)
    features, concepts = torch.randn(2, 3, 4, 4, generator=random), torch.rand(2, 90, 8, 8, generator=random) < 0.5
    candidates = threshold_candidates(features)
    every, present = joint_histogram(features, concepts, candidates)
    large = torch.nn.functional.interpolate(features, (8, 8), mode="bilinear")
    level = (large[:, :, None] > candidates[None, :, :, None, None]).sum(2)
    for unit in range(3):
        expected = torch.bincount(level[:, unit].flatten(), minlength=every.shape[1])
        assert torch.equal(every[unit], expected.double())
        for concept in range(90):
            expected = torch.bincount(level[:, unit][concepts[:, concept]], minlength=every.shape[1])
            assert torch.equal(present[unit, :, concept], expected.double())


def test_a_unit_that_never_varies_has_no_information():
    features, concepts = features_and_concepts()
    features[:, 0] = 1.0
    counts = JointCounts(threshold_candidates(features), 3)
    counts.add(features, concepts)
    assert counts.best_thresholds()[1][0].tolist() == [0, 0, 0]


def test_the_unit_that_paints_the_square_is_found(sampler):
    layer = dissect_layers(sampler, White(), images=40, min_iou=0.05, seed=0)["painter"]
    unit = layer.units[3]
    assert (unit["concept"], unit["iou"], unit["quality"]) == ("white", 1.0, pytest.approx(1.0))
    assert unit["low"] == unit["high"] == 1.0
    assert all(sampler.draw([number]).images[0, 0, 5, 9] > 0.5 for number in unit["top_images"])
    assert layer.units[0]["concept"] is None and layer.units[0]["quality"] == 0
    off, on = layer.levels(0)
    assert on[3] == pytest.approx(2.0) and off[3] == 0


def test_switching_units_off_and_on_is_exact(world):
    latents, classes = world.sample_latents(12, random_stream(3)), torch.zeros(12, dtype=torch.int64)
    plain = world(latents, classes)
    with edited(world, "painter", setting([3], torch.zeros(1))):
        without = world(latents, classes)
    assert (without[:, :, *SQUARE] < 0).all()
    outside = torch.ones(16, 16, dtype=torch.bool)
    outside[SQUARE] = False
    assert torch.equal(without[:, :, outside], plain[:, :, outside])
    region = torch.zeros(1, 16, 16)
    region[:, 0:2, 0:2] = 1
    with edited(world, "painter", setting([3], torch.tensor([2.0]), region)):
        inserted = world(latents, classes)
    assert (inserted[:, :, 0:2, 0:2] == 1).all()
    region[:, 0:2, 0:2] = 0
    inserted[:, :, 0:2, 0:2] = plain[:, :, 0:2, 0:2]
    assert torch.equal(inserted, plain)
    assert torch.equal(world(latents, classes), plain)  # nothing is left behind


def test_no_unit_and_all_units(world):
    latents, classes = world.sample_latents(5, random_stream(4)), torch.zeros(5, dtype=torch.int64)
    with edited(world, "painter", setting([], torch.zeros(0))):
        assert torch.equal(world(latents, classes), SquareWorld().freeze()(latents, classes))
    with edited(world, "painter", setting(range(6), torch.zeros(6))):
        assert (world(latents, classes) == -1).all()


def test_the_effect_by_hand(world):
    latents, classes = world.sample_latents(30, random_stream(5)), torch.zeros(30, dtype=torch.int64)

    def white(images):
        return (images[:, 0] > 0.5).float().mean((1, 2))

    levels = torch.zeros(6), torch.tensor([0, 0, 0, 2.0, 0, 0])
    effect = causal_effect(world, "painter", [3], levels, white, latents, classes)
    assert (effect.ace, effect.low, effect.high) == (1.0, 1.0, 1.0)  # inserted everywhere, ablated everywhere
    region = torch.zeros(1, 16, 16)
    region[:, :, :8] = 1
    assert causal_effect(world, "painter", [3], levels, white, latents, classes, region).ace == pytest.approx(0.5)
    assert causal_effect(world, "painter", [1, 2], levels, white, latents, classes).ace == 0
    assert causal_effect(world, "painter", [], levels, white, latents, classes).ace == 0


def test_every_image_has_a_region_of_its_own(world):
    latents, classes = world.sample_latents(100, random_stream(5)), torch.zeros(100, dtype=torch.int64)
    region = torch.zeros(100, 16, 16)
    for number in range(100):
        region[number, : number % 17] = 1

    def white(images):
        return (images[:, 0] > 0.5).float().mean((1, 2))

    levels = torch.zeros(6), torch.tensor([0, 0, 0, 2.0, 0, 0])
    effect = causal_effect(world, "painter", [3], levels, white, latents, classes, region)
    assert torch.allclose(effect.images, torch.tensor([number % 17 / 16 for number in range(100)]))


class WideSquares(SquareWorld):
    """The square has another width for every z, so two images hardly ever have the same mask."""

    def forward(self, latents, classes):
        white = torch.sigmoid(latents[:, :1, None] + latents[:, 1:2, None] * torch.linspace(-3, 3, 16)) > 0.5
        return (white.float() * 2 - 1)[:, None].expand(-1, 3, 16, 16)


def test_regions_are_masks_of_the_concept_in_other_images():
    sampler = Sampler(WideSquares().freeze(), [], Fabric(accelerator="cpu", devices=1), seed=0, among=None)
    config, source, numbers = DissectConfig(concept="white"), White(), range(1000, 1040)
    masks = [source(sampler.draw([number + 500_000]).images)[0, 0].float() for number in numbers]
    drawn = regions(config, sampler, source, numbers)
    possible, chosen = [{mask.numpy().tobytes() for mask in some} for some in (masks, drawn)]
    assert drawn.shape == (40, 16, 16) and len(chosen) > 5 and chosen <= possible
    own = [source(sampler.draw([number]).images)[0, 0].float() for number in numbers]
    assert not chosen <= {mask.numpy().tobytes() for mask in own}
    assert torch.equal(drawn, regions(config, sampler, source, numbers))
    assert not torch.equal(drawn, regions(config, sampler, source, range(2000, 2040)))
    assert not torch.equal(drawn, regions(replace(config, seed=1), sampler, source, numbers))
    assert regions(replace(config, region="everywhere"), sampler, source, range(4)) is None
    centre = regions(replace(config, region="centre"), sampler, source, range(4))
    assert centre.shape[0] == 1 and centre.mean() == 0.25 and centre[0, 3, 3] == 1 and centre[0, 0, 0] == 0
    with pytest.raises(UserError, match=r"green is in none of 4 images.*--region centre"):
        regions(replace(config, concept="green"), sampler, Appearance(), range(4))


def test_intervals_are_those_of_a_bootstrap():
    differences = torch.randn(200, generator=random_stream(6)) + 1
    effect = effect_of(differences)
    half = 1.96 * differences.std() / 200**0.5
    assert effect.low == pytest.approx(float(differences.mean() - half), abs=0.03)
    assert effect.high == pytest.approx(float(differences.mean() + half), abs=0.03)


def test_alpha_finds_the_unit(world):
    latents, classes = world.sample_latents(16, random_stream(7)), torch.zeros(16, dtype=torch.int64)
    levels = torch.zeros(6), torch.full((6,), 1.5)
    alpha = optimise_alpha(
        world, "painter", torch.full((6,), 0.5), levels, lambda images: images.mean((1, 2, 3)), latents, classes,
        steps=60, rate=0.05,
    )  # fmt: skip
    assert set(alpha.argsort(descending=True)[:2].tolist()) == {3, 4}
    assert alpha[3] > 0.7 and (alpha[[0, 1, 2, 5]] < 0.2).all()


def test_alpha_is_the_same_for_a_concept_that_fills_a_thousandth_as_much(world):
    latents, classes = world.sample_latents(16, random_stream(7)), torch.zeros(16, dtype=torch.int64)
    levels = torch.zeros(6), torch.full((6,), 1.5)
    large, small = (
        optimise_alpha(
            world, "painter", torch.full((6,), 0.5), levels, lambda images, scale=scale: scale * images.mean((1, 2, 3)),
            latents, classes, steps=60, rate=0.05,
        )
        for scale in (1.0, 0.001)
    )  # fmt: skip
    assert large[3] > 0.7
    torch.testing.assert_close(small, large, atol=0.01, rtol=0)  # with one lambda for both the smaller would be 0


def test_blending_by_hand():
    features = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    region = torch.tensor([[[1.0, 0.0], [0.5, 0.0]]])
    mixed = blend(features, torch.tensor([0.5, 1.0]), torch.tensor([4.0, 3.0]), region)
    assert mixed[0, 0].tolist() == [[3.0, 2.0], [2.5, 2.0]]
    assert mixed[0, 1].tolist() == [[3.0, -1.0], [1.0, -1.0]]


def test_unknown_layers_and_units_are_refused(world):
    with pytest.raises(UserError, match="no layer 'wall': its layers are painter"), edited(world, "wall", lambda x: x):
        pass
    with (
        pytest.raises(UserError, match=r"no units \[6\] among 6: give 0 to 5"),
        edited(world, "painter", setting([6], torch.zeros(1))),
    ):
        world(torch.zeros(1, 6), torch.zeros(1, dtype=torch.int64))


def test_colours_light_and_places_of_known_images():
    image = torch.zeros(1, 3, 6, 6)
    for column, colour in enumerate([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 1, 1), (0, 0, 0)]):
        image[0, :, :, column] = torch.tensor(colour, dtype=torch.float32)[:, None] * 2 - 1
    source = Appearance()
    found = dict(zip(source.names, source(image)[0], strict=True))
    assert len(source.names) == len(source.kinds) == len(found)
    for column, name in enumerate(["red", "green", "blue", "yellow", "white", "black"]):
        expected = torch.zeros(6, 6, dtype=torch.bool)
        expected[:, column] = True
        assert torch.equal(found[name], expected), name
    assert found["top"][:2].all() and not found["top"][2:].any() and found["bottom"][4:].all()
    assert found["bright"][:, 3:5].all() and torch.equal(found["flat"], ~found["edges"])
    grey = source(torch.zeros(1, 1, 6, 6))  # a grey generator
    assert dict(zip(source.names, grey[0], strict=True))["grey"].all()


def test_object_and_background_complement_each_other():
    images = torch.rand(2, 3, 64, 64, generator=random_stream(8)) * 2 - 1
    source = Saliency()
    both = source(images)
    assert both.shape == (2, 2, 64, 64) and (both[:, 0] ^ both[:, 1]).all()
    images.requires_grad_()
    source.soft(images).mean().backward()
    assert images.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="same name"):
        Joined((source, source))


def test_the_verb_writes_a_page_about_everything(world, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "load_chosen", lambda _: world)
    photos = tmp_path / "photos"
    for number in range(6):
        noise = np.random.default_rng(number).integers(0, 255, (16, 16, 3), np.uint8)
        write_image(photos / f"{number}.png", noise)
    config = DissectConfig(
        run=tmp_path, device="cpu", images=24, concept="white", units=2, effect_images=12, region="everywhere",
        artifact_images=8, real=photos, generator="squares",
    )  # fmt: skip
    page = dissect(config).read_text()
    assert 'src="http' not in page and "Average causal effect" in page and 'src="data:' in page
    found = json.loads((tmp_path / "dissect" / "dissection.json").read_text())
    assert found["generator"]["sha256"] == world.sha256
    unit = found["layers"]["painter"][3]
    assert unit["concept"] in ("white", "bright", "salient object") and unit["iou"] == pytest.approx(1.0)
    effects = found["interventions"]
    assert effects["by_agreement"][0] == 3 and effects["curve"][0]["ace"] == 1.0
    drawn = [3 in units for units in random_sets(config.seed, 6, 1)]  # no other unit can make the image white
    assert effects["curve"][0]["random_ace"] == pytest.approx(np.mean(drawn))
    assert effects["curve"][0]["margin"] == pytest.approx(1 - np.mean(drawn))
    assert found["artifacts"]["ranked_by"] == "feature distance"
    assert ("--ablate-units painter:" in page) == bool(found["artifacts"]["units"])
    before = (tmp_path / "dissect" / "dissection.json").read_bytes()
    dissect(config)
    assert (tmp_path / "dissect" / "dissection.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"concept": "cat"}, "no concept 'cat'"),
        ({"layers": ("roof",)}, "no layers roof"),
        ({"images": 1}, "--images is 1, but has to be 2 or more"),
    ],
)
def test_what_does_not_exist_is_refused(world, tmp_path, monkeypatch, change, sentence):
    monkeypatch.setattr(stage, "load_chosen", lambda _: world)
    with pytest.raises(UserError, match=sentence):
        dissect(DissectConfig(run=tmp_path, device="cpu", **change))
