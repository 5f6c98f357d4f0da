import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from saliency_gan.cli.arguments import parse
from saliency_gan.errors import UserError
from saliency_gan.generators import zoo
from saliency_gan.generators.families import new_generator
from saliency_gan.generators.sngan import SNGAN
from saliency_gan.generators.zoo import GENERATORS, load_generator, save_generator
from saliency_gan.runs.random_streams import random_stream

from .conftest import make_biggan, make_sngan

PIPELINES = Path(__file__).parents[2] / "pipelines"


def test_an_sngan_is_saved_with_its_family_and_read_back(tmp_path):
    original = make_sngan((12, 8, 8), image_channels=1)
    save_generator(original, tmp_path / "digits.safetensors", torch.float32)
    loaded = load_generator(str(tmp_path / "digits.safetensors"))
    assert isinstance(loaded, SNGAN) and loaded.architecture == original.architecture
    assert (loaded.num_classes, loaded.class_names, loaded.channels) == (1, ("all",), 1)
    latents = original.sample_latents(3, random_stream(0))
    expected = original.freeze()(latents, torch.zeros(3, dtype=torch.int64))
    torch.testing.assert_close(loaded(latents, torch.zeros(3, dtype=torch.int64)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"family": "stylegan"}, "'stylegan' is no family"),
        ({"family": "sngan"}, "attention_at|embedding_dim|num_classes"),
        ({"architecture": ["no", "mapping"]}, "not a generator file"),
    ],
)
def test_unknown_families_and_sizes_of_another_family_are_refused(tmp_path, metadata, reason):
    description = make_biggan().metadata() | metadata
    path = tmp_path / "fishes.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, {"generator": json.dumps(description)})
    with pytest.raises(UserError, match=reason):
        load_generator(str(path))


@pytest.mark.parametrize("name", ["sngan-mnist", "sngan-anime"])
def test_weights_that_are_not_in_the_package_are_explained_or_given(name, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "bundled_folder", lambda name: tmp_path / "package" / name)
    sentence = rf"weights of {name} are not in this .* --config pipelines/{name}\.yaml` .* with --weights"
    with pytest.raises(UserError, match=sentence):
        load_generator(name)
    save_generator(make_sngan((12, 8, 8)), tmp_path / "generator.safetensors")
    assert load_generator(name, tmp_path).name == name


@pytest.mark.parametrize("name", ["sngan-mnist", "sngan-anime"])
def test_the_zoo_describes_what_the_preset_trains(name):
    config, _ = parse("train-gan", ["--config", f"{PIPELINES}/{name}.yaml"])
    discover, _ = parse("discover", ["--config", f"{PIPELINES}/{name}.yaml"])
    generator, entry = new_generator(config, ("all",)), GENERATORS[name]
    assert sum(parameter.numel() for parameter in generator.parameters()) == entry.parameters
    assert (generator.resolution, generator.latent_dim) == (entry.resolution, entry.latent_dim)
    assert (discover.generator, discover.K, discover.reconstructor) == (name, entry.K, "lenet")
    assert (discover.batch, discover.lr_deformator, discover.steps) == (128, 1e-4, 100_000)


@pytest.mark.parametrize(
    ("name", "classes"),
    [("eigengan-64", 1), ("eigengan-caltech101-64", 59), ("caltech101-64", 59), ("caltech101-64-projected", 59)],
)
def test_the_zoo_describes_the_generators_that_the_presets_train(name, classes):
    config, _ = parse("train-gan", ["--config", f"{PIPELINES}/{name}.yaml"])
    discover, _ = parse("discover", ["--config", f"{PIPELINES}/{name}.yaml"])
    entry = GENERATORS[discover.generator]
    generator = new_generator(config, tuple(map(str, range(classes))))
    assert sum(parameter.numel() for parameter in generator.parameters()) == entry.parameters
    assert (generator.resolution, generator.latent_dim, classes) == (64, entry.latent_dim, entry.num_classes)
    assert (entry.pipeline, discover.K) == (f"{name}.yaml", entry.K)
    bundled = load_generator(discover.generator)
    assert {key: tuple(value.shape) for key, value in bundled.state_dict().items()} == {
        key: tuple(value.shape) for key, value in generator.state_dict().items()
    }
