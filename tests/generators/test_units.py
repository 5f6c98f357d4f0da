import copy
import re

import pytest
import torch

from saliency_gan.errors import UserError
from saliency_gan.generators.units import ablate, watched
from saliency_gan.generators.zoo import load_generator
from saliency_gan.runs.random_streams import random_stream
from tests.dissection.worlds import SQUARE, SquareWorld


@pytest.fixture
def world() -> SquareWorld:
    return SquareWorld().freeze()


def subjects(world: SquareWorld, count: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    return world.sample_latents(count, random_stream(3)), torch.zeros(count, dtype=torch.int64)


def test_what_the_ablated_unit_painted_is_gone_and_nothing_else(world: SquareWorld):
    plain = world(*subjects(world))
    assert (plain[:, :, *SQUARE] > 0.5).any()
    repaired = ablate(world, ["painter:3"])
    assert repaired is world
    without = world(*subjects(world))
    assert (without[:, :, *SQUARE] < 0).all()
    outside = torch.ones(16, 16, dtype=torch.bool)
    outside[SQUARE] = False
    assert torch.equal(without[:, :, outside], plain[:, :, outside])


def test_units_are_zero_wherever_they_are_looked_at():
    generator = load_generator("biggan-caltech101-64")
    z, c = generator.sample_latents(2, random_stream(0)), generator.sample_classes(2, random_stream(0))
    plain = generator(z, c)
    with watched(generator, ["block1"]) as before:
        generator(z, c)
    ablate(generator, ["block1:3, 17"])
    with watched(generator, ["block1"]) as after:
        assert not torch.equal(generator(z, c), plain)
    expected = before["block1"].clone()
    expected[:, [3, 17]] = 0
    assert expected[:, 3].equal(after["block1"][:, 3]) and torch.equal(after["block1"], expected)


def test_gradients_pass_by_an_ablated_unit(world: SquareWorld):
    ablate(world, ["painter:3"])
    latents, classes = subjects(world)
    world(latents.requires_grad_(), classes).sum().backward()
    assert latents.grad is not None
    assert (latents.grad[:, 1] != 0).all() and (latents.grad[:, 0] == 0).all()


def test_the_identity_says_what_is_missing(world: SquareWorld):
    intact = copy.deepcopy(world)
    one = ablate(copy.deepcopy(world), ["painter:3"])
    assert one.name == "squares without units (1 of painter)"
    assert one.intact_sha256 == intact.sha256 and re.fullmatch("[0-9a-f]{64}", one.sha256)
    assert intact.intact_sha256 == ""
    ordered = [ablate(copy.deepcopy(world), items).sha256 for items in (["painter:4,3"], ["painter:3", "painter:4,3"])]
    assert ordered[0] == ordered[1]
    assert len({one.sha256, ordered[0], intact.sha256}) == 3


def test_what_was_found_with_all_units_holds_without_some_but_not_the_other_way(world: SquareWorld):
    intact, one, other = world, *(ablate(copy.deepcopy(world), [f"painter:{unit}"]) for unit in (3, 4))
    assert one.is_described_by(intact.sha256) and one.is_described_by(one.sha256)
    assert not intact.is_described_by(one.sha256) and not other.is_described_by(one.sha256)
    assert not intact.is_described_by("")


def test_every_family_is_loaded_without_units():
    whole = load_generator("sngan-mnist")
    repaired = load_generator("sngan-mnist", ablate_units=["block0:0,1,2,3"])
    z, c = whole.sample_latents(3, random_stream(0)), torch.zeros(3, dtype=torch.int64)
    assert not torch.equal(whole(z, c), repaired(z, c))
    assert repaired.intact_sha256 == whole.sha256


def test_watching_leaves_nothing_behind(world: SquareWorld):
    with watched(world, ["painter"]) as features:
        world(*subjects(world))
        assert features["painter"].shape == (12, 6, 16, 16)
    features.clear()
    world(*subjects(world))
    assert not features


@pytest.mark.parametrize(
    ("items", "sentence"),
    [
        (["roof:3"], "squares has no layer 'roof' to ablate units of: its layers are painter"),
        (["painter:6"], "no unit 6 in painter of squares, which has 6: give 0 to 5"),
        (["painter:1,999999999"], "no unit 999999999"),
        (["painter:" + 5000 * "9"], "names no units"),
        (["painter"], "'painter' names no units: give LAYER:U,U,U"),
        (["painter:"], "names no units"),
        (["painter:-1"], "names no units"),
        (["painter:1,"], "names no units"),
        (["painter:²"], "names no units"),
        ("painter:x", "'painter:x' names no units"),
        (17, "'17' names no units"),
    ],
)
def test_units_that_there_are_not_are_refused(world: SquareWorld, items, sentence: str):
    with pytest.raises(UserError, match=re.escape(sentence)):
        ablate(world, items)
    assert world.intact_sha256 == ""
