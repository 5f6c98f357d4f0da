import hashlib
import json
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch

from saliency_gan.cli.arguments import parse
from saliency_gan.cli.main import main
from saliency_gan.errors import UserError
from saliency_gan.generators import zoo
from saliency_gan.generators.zoo import load_generator, save_generator
from saliency_gan.runs.random_streams import random_stream
from saliency_gan.storage.bundled import bundled_folder

from .conftest import Payload, make_biggan

PIPELINES = Path(zoo.__file__).parents[2] / "pipelines"


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "fishes.safetensors"
    save_generator(make_biggan(32, 16), path)
    return path


def rewrite(path, metadata=None, **tensors):
    """Changes the description or tensors of a generator file."""
    with safetensors.safe_open(path, "pt") as file:
        description = json.loads(file.metadata()["generator"])
    description |= metadata or {}
    content = safetensors.torch.load_file(path) | tensors
    safetensors.torch.save_file(content, path, {"generator": json.dumps(description)})


def test_saved_generator_draws_the_same_images_within_half_precision(saved):
    original, loaded = make_biggan(32, 16).freeze(), load_generator(str(saved))
    latents, classes = original.sample_latents(4, random_stream(0)), torch.tensor([0, 1, 2, 0])
    torch.testing.assert_close(loaded(latents, classes), original(latents, classes), rtol=0, atol=1e-2)
    assert loaded.architecture == original.architecture
    assert loaded.class_names == ("cat", "dog", "fish")
    assert loaded.name == "fishes"
    assert loaded.sha256 == hashlib.sha256(saved.read_bytes()).hexdigest()
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())


def test_full_precision_is_exact(tmp_path):
    original = make_biggan().freeze()
    save_generator(original, tmp_path / "exact.safetensors", torch.float32)
    loaded = load_generator(str(tmp_path / "exact.safetensors"))
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, original.state_dict()[name]), name


def test_only_matrices_are_halved(saved):
    kinds = {tensor.ndim > 1: tensor.dtype for tensor in safetensors.torch.load_file(saved).values()}
    assert kinds == {True: torch.float16, False: torch.float32}


def test_a_folder_counts_as_the_generator_file_in_it(tmp_path):
    save_generator(make_biggan(), tmp_path / "generator.safetensors")
    assert load_generator(str(tmp_path)).num_classes == 3
    assert load_generator("biggan-caltech101-64", tmp_path).name == "biggan-caltech101-64"


@pytest.mark.parametrize(
    ("name", "near"), [("bigan-deep128", "biggan-deep-128"), ("caltech101", "biggan-caltech101-64")]
)
def test_unknown_names_are_answered_with_the_nearest(name, near):
    with pytest.raises(UserError, match=f"no generator and no file '{name}': did you mean '{near}'"):
        load_generator(name)
    with pytest.raises(UserError, match="no generator and no file 'foo': saliency-gan generators lists those"):
        load_generator("foo")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no generator file .*gone.safetensors"):
        load_generator(str(tmp_path / "gone.safetensors"))


@pytest.mark.parametrize("suffix", [".pt", ".pkl", ".bin"])
def test_a_pickle_is_refused_and_never_run(tmp_path, suffix):
    path, witness = tmp_path / f"weights{suffix}", tmp_path / "was-run"
    path.write_bytes(pickle.dumps({"weights": Payload(witness)}))
    for name, weights in ((str(path), None), ("biggan-caltech101-64", path)):
        with pytest.raises(UserError, match=r"pickled weights are never loaded.*give a \.safetensors file"):
            load_generator(name, weights)
    assert not witness.exists()


@pytest.mark.parametrize("length", [0, 5, 100, -200])
def test_truncated_files_are_refused(saved, length):
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(UserError, match="no safetensors file, or a damaged one"):
        load_generator(str(saved))


def test_other_safetensors_files_are_refused(tmp_path):
    safetensors.torch.save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"other.safetensors is not a generator file .*lacks 'generator'"):
        load_generator(str(tmp_path / "other.safetensors"))


@pytest.mark.parametrize(
    "metadata",
    [
        {"architecture": {}},
        {"architecture": {"channels": 3}},
        {"architecture": {"channels": [8, 8], "resolution": 8, "latent_dim": 8, "surprise": 1}},
        {"class_names": None},
        {"class_names": ["cat"]},
    ],
)
def test_wrong_descriptions_are_refused(saved, metadata):
    rewrite(saved, metadata)
    with pytest.raises(UserError, match="is not a generator file that train-gan wrote"):
        load_generator(str(saved))


def test_tensors_of_another_size_are_refused(saved):
    rewrite(saved, **{"embedding.weight": torch.zeros(4, 4)})
    with pytest.raises(UserError, match=r"size mismatch for embedding\.weight"):
        load_generator(str(saved))


def test_truncation_is_refused_where_the_family_has_none(saved):
    with pytest.raises(UserError, match=r"truncation 0.5 .* only biggan-deep-128"):
        load_generator(str(saved), truncation=0.5)


def test_a_file_and_other_weights_are_refused(saved):
    with pytest.raises(UserError, match="leave out one of them"):
        load_generator(str(saved), saved)


@pytest.mark.parametrize("name", filter(zoo.is_bundled, zoo.GENERATORS))
def test_bundled_generators_lie_in_the_package_and_are_as_the_table_says(name):
    assert bundled_folder(name).parts[-3:] == ("saliency_gan", "weights", name)
    generator, entry = load_generator(name), zoo.GENERATORS[name]
    assert (generator.resolution, generator.latent_dim) == (entry.resolution, entry.latent_dim)
    assert generator.num_classes == entry.num_classes
    assert sum(parameter.numel() for parameter in generator.parameters()) == entry.parameters


@pytest.mark.parametrize("name", zoo.GENERATORS)
@pytest.mark.parametrize("verb", ["discover", "masks"])
def test_every_generator_has_a_preset_that_can_be_run(name, verb, tmp_path, capsys):
    entry = zoo.GENERATORS[name]
    pipeline = PIPELINES / entry.pipeline
    config, _ = parse(verb, ["--config", str(pipeline)])
    assert config.generator == name
    if verb == "discover":
        assert config.K == entry.K
        assert config.deformator != "orthonormal" or entry.latent_dim >= entry.K
    assert main([verb, "--config", str(pipeline), "--run", str(tmp_path), "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert f"generator: {name}\n" in plan and f"writes:\n  {tmp_path}" in plan


@pytest.mark.parametrize("truncation", [0.5, 2.0])
@pytest.mark.parametrize("name", [name for name, entry in zoo.GENERATORS.items() if not entry.truncates])
def test_generators_without_truncation_refuse_it_before_anything_is_read(name, truncation, tmp_path):
    with pytest.raises(UserError, match=f"truncation {truncation} was asked of {name}, but only biggan-deep-128, "):
        load_generator(name, tmp_path / "missing", truncation)
