import json
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from saliency_gan.errors import UserError
from saliency_gan.generators.biggan import BigGAN, BigGANArchitecture
from saliency_gan.results.directions import BackgroundDirection, Directions, load_directions
from saliency_gan.runs.random_streams import random_stream


@pytest.fixture
def directions():
    matrix, _ = torch.linalg.qr(torch.randn(12, 4, generator=random_stream(0)))
    scores = [
        {"index": 2, "rank": 1, "sign": -1, "shift": 6.0, "polarity": "bright", "score": 0.5, "parts": {"a": 1.0}}
    ]
    return Directions(
        matrix=matrix,
        background_vector=-matrix[:, 2],
        background=BackgroundDirection(2, -1, 6.0, "bright", "rank", "user"),
        generator={"name": "tiny", "sha256": "ab" * 32},
        scores=scores,
        rca={"accuracy": 0.9, "low": 0.8, "high": 0.95, "samples": 100},
        config={"K": 4, "classes": ["dog"]},
        names={3: "size", 2: "background"},
    )


def test_directions_come_back_as_they_were_saved(directions, tmp_path):
    directions.save(tmp_path / "discover")
    loaded = load_directions(tmp_path / "discover")
    assert torch.equal(loaded.matrix, directions.matrix)
    assert torch.equal(loaded.background_vector, directions.background_vector)
    for name in ("background", "generator", "scores", "rca", "config", "names"):
        assert getattr(loaded, name) == getattr(directions, name)


@pytest.mark.parametrize("change", [{"shift": 2.0}, {"polarity": "dark"}])
def test_the_file_that_identifies_directions_depends_on_all_that_pairs_depend_on(directions, tmp_path, change):
    other = replace(directions, background=replace(directions.background, **change))
    files = []
    for name, saved in (("one", directions), ("again", directions), ("other", other)):
        saved.save(tmp_path / name)
        files.append((tmp_path / name / "directions.safetensors").read_bytes())
    assert files[0] == files[1] != files[2]


def test_control_characters_in_names_are_escaped(directions, tmp_path):
    replace(directions, names={1: "red\x1b[31m"}).save(tmp_path)
    assert load_directions(tmp_path).names == {1: "red\\x1b[31m"}


def test_trained_matrices_are_saved_without_their_gradient(directions, tmp_path):
    matrix = directions.matrix.double().t().contiguous().t().requires_grad_()
    Directions(matrix, directions.background_vector, directions.background, directions.generator).save(tmp_path)
    loaded = load_directions(tmp_path)
    assert torch.equal(loaded.matrix, directions.matrix) and not loaded.matrix.requires_grad


def test_an_optimised_direction_has_no_index(directions, tmp_path):
    background = BackgroundDirection(None, 1, 3.0, "dark", "optimise")
    Directions(directions.matrix, directions.background_vector, background, directions.generator).save(tmp_path)
    assert load_directions(tmp_path).background == background


def test_files_from_before_directions_had_names_are_read(directions, tmp_path):
    directions.save(tmp_path)
    description = json.loads((tmp_path / "directions.json").read_text())
    assert description.pop("names") == {"2": "background", "3": "size"}
    (tmp_path / "directions.json").write_text(json.dumps(description))
    assert load_directions(tmp_path).names == {}


def test_a_direction_is_meant_by_its_index_or_its_name(directions):
    assert [directions.index_of(direction) for direction in (0, 3, "size", "background")] == [0, 3, 3, 2]
    with pytest.raises(UserError, match="no direction 4 among K = 4: give 0 to 3"):
        directions.index_of(4)
    with pytest.raises(UserError, match="did you mean 'background'"):
        directions.index_of("backgruond")
    with pytest.raises(UserError, match="no direction has a name yet"):
        replace(directions, names={}).index_of("size")


def test_another_generator_is_refused(directions):
    generator = BigGAN(BigGANArchitecture(8, 12, 3, 4, (8, 8)), "other")
    generator.sha256 = "cd" * 32
    with pytest.raises(
        UserError, match=r"belong to generator tiny \(abababababab\), but other \(cdcdcdcdcdcd\) was given"
    ):
        directions.check_generator(generator)
    generator.sha256 = "ab" * 32
    directions.check_generator(generator)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("directions.json", "has no directions.json, because discover has not finished there"),
        ("directions.safetensors", "directions.safetensors does not exist: run discover first"),
    ],
)
def test_missing_files_are_refused(directions, tmp_path, name, sentence):
    directions.save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=sentence):
        load_directions(tmp_path)


def test_what_is_no_folder_is_told_which_generators_have_directions(tmp_path):
    (tmp_path / "photo.jpg").touch()
    for wrong in (tmp_path / "photo.jpg", "biggan-caltech101"):
        with pytest.raises(
            UserError, match=r"give one of biggan-caltech101-64, biggan-caltech101-64-projected, eigengan"
        ):
            load_directions(wrong)


@pytest.mark.parametrize("name", ["directions.json", "directions.safetensors"])
@pytest.mark.parametrize("length", [0, 40, -10])
def test_truncated_files_are_refused(directions, tmp_path, name, length):
    directions.save(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:length])
    with pytest.raises(UserError, match="run"):
        load_directions(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"background": {"surprise": 1}},
        {"background": []},
        {"generator": {}},
        {"generator": None},
        {"K": 5},
        {"latent_dim": 24},
    ],
)
def test_descriptions_that_do_not_fit_are_refused(directions, tmp_path, change):
    directions.save(tmp_path)
    description = json.loads((tmp_path / "directions.json").read_text())
    (tmp_path / "directions.json").write_text(json.dumps(description | change))
    with pytest.raises(UserError, match="run discover again"):
        load_directions(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"index": 4},
        {"index": None},
        {"index": [1]},
        {"rank": "1"},
        {"sign": 2},
        {"shift": "6"},
        {"polarity": "<script>alert(1)</script>"},
        {"score": "x"},
        {"score": float("nan")},
        {"parts": {"a": "1"}},
        {"parts": [1.0]},
    ],
)
def test_rankings_that_discover_does_not_write_are_refused(directions, tmp_path, change):
    replace(directions, scores=[directions.scores[0] | change]).save(tmp_path)
    with pytest.raises(UserError, match="does not describe directions as discover writes them"):
        load_directions(tmp_path)


@pytest.mark.parametrize("K", ["4", -1, 5, 2.0, True])
def test_a_number_of_learned_columns_that_cannot_be_is_refused(directions, tmp_path, K):
    replace(directions, config={"K": K}).save(tmp_path)
    with pytest.raises(UserError, match="does not describe directions as discover writes them"):
        load_directions(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"A": torch.zeros(12)}, "A of shape"),
        ({"A": torch.full((12, 4), torch.nan)}, "not finite"),
        ({"background": torch.zeros(11)}, "run discover again"),
        ({"background": torch.full((12,), torch.inf)}, "not finite"),
        ({"A": None}, "no usable directions"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(directions, tmp_path, change, message):
    directions.save(tmp_path)
    path = tmp_path / "directions.safetensors"
    tensors = safetensors.torch.load_file(path) | change
    safetensors.torch.save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)
    with pytest.raises(UserError, match=message):
        load_directions(tmp_path)


def test_two_files_of_which_a_kill_replaced_one_are_refused(directions, tmp_path, monkeypatch):
    directions.save(tmp_path)
    monkeypatch.setattr("saliency_gan.results.directions.write_json", lambda *_: None)
    replace(directions, background_vector=directions.matrix[:, 1]).save(tmp_path)
    with pytest.raises(UserError, match=r"directions.safetensors is not the file that directions.json beside it"):
        load_directions(tmp_path)
