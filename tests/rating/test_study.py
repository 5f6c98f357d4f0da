from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from saliency_gan.config import RateConfig
from saliency_gan.errors import StageError, UserError
from saliency_gan.generators.zoo import load_generator
from saliency_gan.images.layout import grid
from saliency_gan.images.tensors import to_uint8
from saliency_gan.images.writing import encode
from saliency_gan.rating.study import RatedDirection, Study, digest_of
from saliency_gan.results.directions import load_directions
from tests.directions.finished import K, finished_run


def ids(study: Study) -> list[str]:
    return [direction.id for direction in study.directions]


def test_as_many_of_every_kind_as_asked_for_and_none_twice(config: RateConfig) -> None:
    study = Study(config)
    assert Counter(direction.kind for direction in study.directions) == {"learned": 4, "random": 2, "coordinate": 2}
    assert len(set(ids(study))) == 8
    assert study.columns == {"learned": K, "random": K, "coordinate": K}
    assert ids(Study(config)) == ids(study) and ids(Study(replace(config, seed=1))) != ids(study)
    everything = Study(replace(config, learned=99, random=99, coordinate=99))
    assert len(everything.directions) == 3 * K, "where there are fewer, all"


def test_more_directions_keep_those_that_were_rated_before(config: RateConfig) -> None:
    few, many = Study(config), Study(replace(config, learned=5, random=6, coordinate=3))
    assert set(ids(few)) < set(ids(many))


def test_each_kind_is_what_it_is_called(config: RateConfig) -> None:
    study = Study(config)
    matrix = load_directions(config.run / "discover").matrix

    def vectors(kind: str) -> torch.Tensor:
        return torch.stack([study.vector(RatedDirection(kind, index)) for index in range(K)])

    assert torch.allclose(vectors("learned"), matrix.T, atol=1e-6)
    assert torch.equal(vectors("coordinate"), torch.eye(12)[:K])
    random = vectors("random")
    assert torch.allclose(random @ random.T, torch.eye(K), atol=1e-5)
    assert random.abs().max() < 0.99 and (random @ matrix).abs().max() < 0.99


def test_raters_see_the_same_directions_in_an_order_of_their_own_on_latents_of_their_own(config: RateConfig) -> None:
    study = Study(config)
    ann, bob = study.order_of("ann"), study.order_of("bob")
    assert ann != bob and set(ann) == set(bob) == set(study.directions)
    assert study.order_of("ann") == ann == Study(config).order_of("ann")
    assert not torch.equal(study.subjects("ann")[0], study.subjects("bob")[0])
    kinds = [direction.kind for direction in ann]
    assert kinds != sorted(kinds) and kinds != [direction.kind for direction in study.directions], "shuffled"


def test_a_sheet_shows_the_rater_s_latents_from_minus_8_to_8(config: RateConfig) -> None:
    study = Study(config)
    generator = load_generator(str(config.run.parent / "tiny.safetensors"))
    latents, classes = study.subjects("ann")
    for direction in study.directions[::3]:
        sheet = cv2.imdecode(np.frombuffer(study.sheet("ann", direction), np.uint8), cv2.IMREAD_COLOR_RGB)
        rows = []
        for z, c in zip(latents, classes, strict=True):
            moved = torch.stack([z + shift * study.vector(direction) for shift in range(-8, 9, 2)])
            with torch.no_grad():
                rows += list(to_uint8(generator(moved, c.repeat(9))))
        expected = grid(rows, columns=9)
        assert sheet.shape == expected.shape == (3 * 18 - 2, 9 * 18 - 2, 3)
        jpeg = cv2.imdecode(np.frombuffer(encode(expected, ".jpg", 90), np.uint8), cv2.IMREAD_COLOR_RGB)
        assert np.abs(sheet.astype(int) - jpeg).mean() < 0.5


def test_the_last_sheets_are_kept(config: RateConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saliency_gan.rating.study.SHEETS_KEPT", 2)
    study, drawn = Study(config), []
    monkeypatch.setattr(study, "_draw", lambda rater, direction: drawn.append((rater, direction)) or b"jpeg")
    first, second, third, *_ = study.directions
    for direction in (first, first, second, first, third, first, second):
        study.sheet("ann", direction)
    assert [direction for _, direction in drawn] == [first, second, third, second]
    study.sheet("bob", first)
    assert drawn[-1] == ("bob", first)


def test_nothing_is_drawn_after_the_end(config: RateConfig) -> None:
    study = Study(config)
    study.close()
    with pytest.raises(StageError, match="ended"):
        study.sheet("ann", study.directions[0])


@pytest.mark.parametrize("kind", ["random", "coordinate"])
def test_directions_that_nobody_learned_are_not_called_learned(tmp_path: Path, kind: str) -> None:
    run = finished_run(tmp_path, deformator=kind)
    with pytest.raises(UserError, match=f"are {kind} ones, not learned"):
        Study(RateConfig(run=run))


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ({"learned": 0, "random": 0, "coordinate": 0}, "at least one direction"),
        ({"random": -1}, "--random is -1, but has to be 0 or more"),
        ({"samples": 0}, "1 to 50"),
        ({"port": 70000}, "--port is 70000"),
        ({"run": Path("nowhere"), "generator": "sngan-mnist"}, "run discover first"),
    ],
)
def test_settings_out_of_range_are_refused(config: RateConfig, others: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Study(replace(config, **others))


def test_answers_about_other_directions_are_refused(config: RateConfig, tmp_path: Path) -> None:
    study, folder = Study(config), tmp_path / "rating"
    study.claim(folder)
    Study(config).claim(folder)
    directions = load_directions(config.run / "discover")
    replace(directions, background_vector=-directions.background_vector, names={1: "pose"}).save(
        config.run / "discover"
    )
    Study(config).claim(folder)
    replace(directions, matrix=directions.matrix.flip(1)).save(config.run / "discover")
    with pytest.raises(UserError, match="about other directions"):
        Study(config).claim(folder)


def test_the_digest_is_that_of_the_numbers_alone() -> None:
    matrix = torch.arange(6.0).reshape(2, 3)
    assert digest_of(matrix) == digest_of(matrix.T.contiguous().T) == digest_of(matrix.double())
    assert digest_of(matrix) != digest_of(matrix + 1)
