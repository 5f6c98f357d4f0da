import hashlib
import json
import pickle
from dataclasses import replace

import pytest
import torch
from pytorch_pretrained_biggan.model import PRETRAINED_CONFIG_ARCHIVE_MAP, PRETRAINED_MODEL_ARCHIVE_MAP

from saliency_gan.errors import UserError
from saliency_gan.generators import zoo
from saliency_gan.generators.zoo import load_generator
from saliency_gan.runs.random_streams import random_stream

from .conftest import NARROW_DEEP, Payload, make_deep, save_deep
from .mirrors import serving

FIRST, LAST = (
    [[False, 16, 16], [True, 16, 16], [False, 16, 16], [True, 16, 8]],
    [[False, 8, 8], [True, 8, 4], [False, 4, 4], [True, 4, 2], [False, 2, 2], [True, 2, 1]],
)
DEEP_LAYERS = {
    128: FIRST + LAST,
    256: [*FIRST, [False, 8, 8], [True, 8, 8], *LAST],
    512: [*FIRST, [False, 8, 8], [True, 8, 8], *LAST, [False, 1, 1], [True, 1, 1]],
}
"""(upsamples, inputs, outputs) of every layer in the public config.json, channels in multiples of 128."""


def draw_by_package(model, generator, latents, classes, truncation):
    """The package's own forward pass, spectral norms and all."""
    with torch.no_grad():
        return model(latents, torch.eye(generator.num_classes)[classes], truncation)


@pytest.mark.parametrize(("truncation", "legacy"), [(1.0, True), (0.4, False), (0.53, True)])
def test_images_equal_those_of_the_package(deep_model, tmp_path, truncation, legacy):
    generator = load_generator("biggan-deep-128", save_deep(deep_model, tmp_path, legacy), truncation)
    latents = generator.sample_latents(2, random_stream(0))
    classes = torch.tensor([9, 3])
    images = generator(latents, classes)
    assert images.shape == (2, 3, 128, 128)
    expected = draw_by_package(deep_model, generator, latents, classes, truncation)
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-5)


def test_truncation_chooses_the_batch_statistics(deep_folder):
    latents, classes = torch.zeros(1, 16), torch.tensor([0])
    images = [load_generator("biggan-deep-128", deep_folder, truncation)(latents, classes) for truncation in (1.0, 0.5)]
    assert not torch.allclose(*images, atol=1e-3)


def test_description_of_the_model(deep_folder):
    generator = load_generator("biggan-deep-128", deep_folder)
    assert (generator.latent_dim, generator.num_classes, generator.resolution) == (16, 10, 128)
    assert generator.class_names == tuple("0123456789")
    assert generator.sha256 == hashlib.sha256((deep_folder / "pytorch_model.bin").read_bytes()).hexdigest()
    kinds = [type(layer).__name__ for layer in generator.feature_layers.values()]
    assert kinds == ["DeepBlock"] * 8 + ["SelfAttention"] + ["DeepBlock"] * 2


def test_imagenet_models_name_their_classes(tmp_path):
    settings = NARROW_DEEP | {"num_classes": 1000}
    generator = load_generator("biggan-deep-128", save_deep(make_deep(**settings), tmp_path))
    assert generator.class_indices(["tench", "golden retriever", "toilet tissue"]) == [0, 207, 999]
    assert generator.class_indices(["Cardigan", "cardigan"]) == [264, 474]


def test_files_named_as_on_the_server_are_found(deep_folder, tmp_path):
    for file in ("config.json", "pytorch_model.bin"):
        (tmp_path / f"biggan-deep-128-{file}").write_bytes((deep_folder / file).read_bytes())
    expected = load_generator("biggan-deep-128", deep_folder).sha256
    assert load_generator("biggan-deep-128", tmp_path).sha256 == expected
    assert load_generator("biggan-deep-128", tmp_path / "biggan-deep-128-pytorch_model.bin").sha256 == expected


def test_tensors_beyond_those_of_the_model_are_ignored_as_by_the_package(deep_model, tmp_path):
    save_deep(deep_model, tmp_path)
    torch.save({**deep_model.state_dict(), "extra": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    assert load_generator("biggan-deep-128", tmp_path).resolution == 128


@pytest.mark.parametrize("truncation", [0.0, -1.0, 1.1])
def test_truncations_outside_the_range_are_refused(deep_folder, truncation):
    with pytest.raises(UserError, match=f"truncation {truncation} was asked"):
        load_generator("biggan-deep-128", deep_folder, truncation)


def test_a_folder_without_the_files_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds no config.json: --weights needs a folder with config.json and pytorch"):
        load_generator("biggan-deep-128", tmp_path)


def test_weights_of_another_resolution_are_refused(deep_folder):
    with pytest.raises(UserError, match="describes a 128 px model, but biggan-deep-256 was asked for"):
        load_generator("biggan-deep-256", deep_folder)


@pytest.mark.parametrize("text", ["[1, 2]", '{"layers": 3}', '{"layers": [[true, 1]]}', '{"channel_width": "wide"}'])
def test_other_json_files_are_refused(deep_folder, tmp_path, text):
    (tmp_path / "pytorch_model.bin").write_bytes((deep_folder / "pytorch_model.bin").read_bytes())
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config.json is not the config.json of a BigGAN-deep"):
        load_generator("biggan-deep-128", tmp_path)


def test_missing_and_misshapen_tensors_are_refused(deep_model, tmp_path):
    save_deep(deep_model, tmp_path)
    state = deep_model.state_dict()
    for name, change in (("embeddings.weight", None), ("generator.gen_z.bias", torch.zeros(3))):
        changed = {key: value for key, value in state.items() if key != name}
        torch.save(changed if change is None else {**changed, name: change}, tmp_path / "pytorch_model.bin")
        with pytest.raises(UserError, match=f"does not hold the weights .*{name}"):
            load_generator("biggan-deep-128", tmp_path)
    torch.save({"weight": torch.zeros(3)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="does not hold the weights"):
        load_generator("biggan-deep-128", tmp_path)


@pytest.mark.parametrize("write", [pickle.dump, torch.save])
def test_a_pickle_is_refused_and_never_run(deep_folder, tmp_path, write):
    witness = tmp_path / "was-run"
    (tmp_path / "config.json").write_bytes((deep_folder / "config.json").read_bytes())
    with open(tmp_path / "pytorch_model.bin", "wb") as file:
        write({"weights": Payload(witness)}, file)
    with pytest.raises(UserError, match=r"pytorch_model.bin is damaged or holds pickled objects .* never run"):
        load_generator("biggan-deep-128", tmp_path)
    assert not witness.exists()


def test_damaged_weights_are_refused(deep_folder, tmp_path):
    (tmp_path / "config.json").write_bytes((deep_folder / "config.json").read_bytes())
    content = (deep_folder / "pytorch_model.bin").read_bytes()
    for damaged in (b"", content[:100], content[:-1000], b"<html>Please log in</html>"):
        (tmp_path / "pytorch_model.bin").write_bytes(damaged)
        with pytest.raises(UserError, match=r"pytorch_model.bin is damaged"):
            load_generator("biggan-deep-128", tmp_path)


@pytest.fixture
def mirror(deep_folder, tmp_path, monkeypatch):
    """Serves the two public files from this machine and lends an empty cache."""
    monkeypatch.setenv("SALIENCY_GAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    entry = zoo.GENERATORS["biggan-deep-128"]
    with serving() as mirror:
        files = tuple(replace(file, urls=(mirror.url(file.name),)) for file in entry.files)
        monkeypatch.setitem(zoo.GENERATORS, "biggan-deep-128", replace(entry, files=files))
        for file in files:
            mirror.files[file.name] = (deep_folder / file.name).read_bytes()
        yield mirror


def test_public_files_are_downloaded_once_and_pinned(mirror, deep_folder, tmp_path, capsys):
    first = load_generator("biggan-deep-128", truncation=0.5)
    pinned = json.loads((tmp_path / "cache" / "biggan-deep-128" / "sha256.json").read_text())
    names = ("config.json", "pytorch_model.bin")
    assert pinned == {name: hashlib.sha256((deep_folder / name).read_bytes()).hexdigest() for name in names}
    assert (first.sha256, first.truncation) == (pinned["pytorch_model.bin"], 0.5)
    assert f"pytorch_model.bin has sha256 {first.sha256}; no official one is known" in capsys.readouterr().out
    assert load_generator("biggan-deep-128").sha256 == first.sha256
    assert [path for path, *_ in mirror.requests] == list(names)
    assert capsys.readouterr().out == ""


def test_a_login_page_in_place_of_the_file_is_not_kept_as_the_true_one(mirror, tmp_path):
    real, mirror.files["pytorch_model.bin"] = mirror.files["pytorch_model.bin"], b"<html>Please log in</html>"
    with pytest.raises(UserError, match=r"pytorch_model.bin is damaged .* delete it"):
        load_generator("biggan-deep-128")
    mirror.files["pytorch_model.bin"] = real
    (tmp_path / "cache" / "biggan-deep-128" / "pytorch_model.bin").unlink()
    assert load_generator("biggan-deep-128").sha256 == hashlib.sha256(real).hexdigest()


def test_given_weights_need_no_network(deep_folder, monkeypatch):
    monkeypatch.setattr(zoo, "fetch", None)
    assert load_generator("biggan-deep-128", deep_folder).resolution == 128


@pytest.mark.parametrize("side", [128, 256, 512])
def test_the_public_addresses_are_those_of_the_package(side):
    name = f"biggan-deep-{side}"
    addresses = {"config.json": PRETRAINED_CONFIG_ARCHIVE_MAP, "pytorch_model.bin": PRETRAINED_MODEL_ARCHIVE_MAP}
    assert {file.name: file.urls for file in zoo.GENERATORS[name].files} == {
        file: (urls[name],) for file, urls in addresses.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("side", [128, 256, 512])
def test_biggan_deep_at_its_true_size(tmp_path, side):
    model = make_deep(output_dim=side, layers=DEEP_LAYERS[side])
    generator = load_generator(f"biggan-deep-{side}", save_deep(model, tmp_path), truncation=0.5)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters == {128: 50_388_609, 256: 55_880_833, 512: 56_163_905}[side]
    assert (generator.latent_dim, generator.num_classes, generator.resolution) == (128, 1000, side)
    latents, classes = generator.sample_latents(1, random_stream(0)), torch.tensor([207])
    images = generator(latents, classes)
    assert images.shape == (1, 3, side, side) and images.std() > 0.01
    plain = draw_by_package(model, generator, latents, classes, 0.5)
    torch.testing.assert_close(images, plain, rtol=0, atol=1e-5)
