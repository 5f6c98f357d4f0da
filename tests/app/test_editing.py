import json

import cv2
import numpy as np
import pytest
import torch

from saliency_gan.app.editing import SIDE, Editor
from saliency_gan.errors import UserError
from saliency_gan.runs.random_streams import Stream, random_stream
from tests.dissection.dissected import write_dissection
from tests.dissection.worlds import SquareWorld

UNITS = [(5, "noise", 0.1), (3, "square", 0.9), (2, "square", 0.2), (4, "stripes", 0.5)]


@pytest.fixture
def world():
    return SquareWorld().freeze()


@pytest.fixture
def editor(world, tmp_path):
    world.anchor = torch.nn.Parameter(torch.zeros(1))  # a generator has weights
    write_dissection(tmp_path / "dissect", world, "painter", UNITS)
    return Editor(tmp_path / "dissect", world, seed=7)


def drawn(world, draw, change=None):
    latents = torch.randn(1, 6, generator=random_stream(7, Stream.EDITING, draw))
    image = world(latents, torch.zeros(1, dtype=torch.int64))[0].clone()
    if change:
        change(image)
    pixels = ((image + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def test_sets_are_by_concept_the_best_units_first(editor):
    assert [(one.concept, one.units) for one in editor.sets] == [
        ("noise", (5,)),
        ("square", (3, 2)),
        ("stripes", (4,)),
        ("artifacts", (4,)),
    ]
    assert editor.sets[1].title == "square, painter (2 units)"
    assert editor.sets[1].on.tolist() == [2, 2] and editor.sets[1].off.tolist() == [0, 0]


def test_units_are_switched_where_it_is_painted(editor, world):
    painted = np.zeros((32, 32), bool)
    painted[:8, :8] = True  # 4 x 4 pixels of the image
    np.testing.assert_array_equal(editor.start(1, None), drawn(world, 1))

    def white(image):
        image[:, :4, :4] += 2
        image.clamp_(-1, 1)

    np.testing.assert_array_equal(editor.edit(1, None, painted, 1, 1, "insert"), drawn(world, 1, white))
    nowhere = np.zeros((1, 1), bool)
    np.testing.assert_array_equal(editor.edit(1, None, nowhere, 1, 1, "insert"), drawn(world, 1))
    shown = next(draw for draw in range(20) if editor.start(draw, None)[SIDE * 6 // 16, SIDE * 12 // 16, 0] > 200)
    without = editor.edit(shown, None, np.ones((4, 4), bool), 1, 20, "ablate")
    assert without.max() < 100 and editor.start(shown, 0).max() > 200


def test_nobody_has_dissected_it(world, tmp_path):
    assert Editor(tmp_path / "dissect", world).sets == ()


def test_another_generator_or_a_damaged_file_is_refused(editor, world, tmp_path):
    path = tmp_path / "dissect" / "dissection.json"
    found = json.loads(path.read_text())
    for change, sentence in (
        ({"generator": {"name": "other", "sha256": "0"}}, "about the generator other"),
        ({"layers": {"roof": []}}, "damaged or of another version"),
        ({"layers": {"painter": [{"unit": 3}]}}, "damaged or of another version"),
        ({"concepts": None}, "damaged or of another version"),
    ):
        path.write_text(json.dumps(found | change))
        with pytest.raises(UserError, match=sentence):
            Editor(tmp_path / "dissect", world)


@pytest.mark.parametrize(("place", "named"), [((0, 9, 0), "no class 9"), ((0, None, 7), "no set of units 7")])
def test_what_no_page_sends_is_refused(editor, place, named):
    draw, class_index, chosen = place
    with pytest.raises(UserError, match=named):
        editor.edit(draw, class_index, np.ones((2, 2), bool), chosen, 1, "ablate")
