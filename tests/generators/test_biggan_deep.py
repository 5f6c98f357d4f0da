import functools
import hashlib
import http.server
import json
import pickle
import threading

import pytest
import pytorch_pretrained_biggan as package
import torch

from saliency_gan.errors import UserError
from saliency_gan.generators import biggan_deep
from saliency_gan.generators.biggan_deep import load_biggan_deep
from saliency_gan.generators.zoo import load_generator
from saliency_gan.runs import random_stream

from .conftest import NARROW_DEEP, Payload, make_deep, save_deep


def draw_by_package(model, generator, latents, classes, truncation):
    """The package's own forward pass, spectral norms and all, in the memory layout that the generator has."""
    model = model.to(memory_format=torch.channels_last)
    with torch.no_grad():
        return model(latents, torch.eye(generator.num_classes)[classes], truncation)


@pytest.mark.parametrize(("truncation", "legacy"), [(1.0, True), (0.4, False), (0.53, True)])
def test_images_equal_those_of_the_package(deep_model, tmp_path, truncation, legacy):
    generator = load_generator("biggan-deep-128", save_deep(deep_model, tmp_path, legacy), truncation)
    latents = generator.sample_latents(2, random_stream(0))
    classes = torch.tensor([9, 3])
    images = generator(latents, classes)
    assert images.shape == (2, 3, 128, 128)
    assert torch.equal(images, draw_by_package(deep_model, generator, latents, classes, truncation))


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
    assert kinds == ["GenBlock"] * 8 + ["SelfAttn"] + ["GenBlock"] * 2


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
def server(deep_folder, tmp_path, monkeypatch):
    """Serves the two public files from this machine and lends an empty cache; yields served folder, cache, requests."""
    served, requests = tmp_path / "served", []
    served.mkdir()
    for file in ("config.json", "pytorch_model.bin"):
        (served / f"biggan-deep-128-{file}").write_bytes((deep_folder / file).read_bytes())

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            requests.append(self.path.rpartition("/")[2])

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=served))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    for file in ("config.json", "pytorch_model.bin"):
        url = f"http://127.0.0.1:{httpd.server_port}/biggan-deep-128-{file}"
        monkeypatch.setitem(biggan_deep.URLS, file, {"biggan-deep-128": url})
    monkeypatch.setenv("SALIENCY_GAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield served, tmp_path / "cache" / "biggan-deep-128", requests
    httpd.shutdown()
    httpd.server_close()


def test_public_files_are_downloaded_once_and_their_sha256_is_kept(server, deep_folder, capsys):
    _, cache, requests = server
    first = load_biggan_deep("biggan-deep-128")
    hashes = json.loads((cache / "sha256.json").read_text())
    assert hashes == {
        file: hashlib.sha256((deep_folder / file).read_bytes()).hexdigest()
        for file in ("config.json", "pytorch_model.bin")
    }
    assert first.sha256 == hashes["pytorch_model.bin"]
    assert f"pytorch_model.bin has sha256 {first.sha256}; no official one is known" in capsys.readouterr().out
    assert load_biggan_deep("biggan-deep-128").sha256 == first.sha256
    assert sorted(requests) == ["biggan-deep-128-config.json", "biggan-deep-128-pytorch_model.bin"]
    assert capsys.readouterr().out == ""


def test_a_cached_file_that_was_damaged_is_downloaded_again(server):
    _, cache, requests = server
    sha256 = load_biggan_deep("biggan-deep-128").sha256
    (cache / "pytorch_model.bin").write_bytes(b"rotten")
    assert load_biggan_deep("biggan-deep-128").sha256 == sha256
    assert requests.count("biggan-deep-128-pytorch_model.bin") == 2


def test_a_file_that_changed_on_the_server_is_refused(server):
    served, cache, _ = server
    load_biggan_deep("biggan-deep-128")
    (cache / "pytorch_model.bin").unlink()
    (served / "biggan-deep-128-pytorch_model.bin").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"could not be downloaded \(ValueError: .*known hash"):
        load_biggan_deep("biggan-deep-128")
    assert not (cache / "pytorch_model.bin").exists()


def test_a_login_page_in_place_of_the_file_is_not_kept_as_the_true_one(server):
    served, cache, _ = server
    real = (served / "biggan-deep-128-pytorch_model.bin").read_bytes()
    (served / "biggan-deep-128-pytorch_model.bin").write_bytes(b"<html>Please log in</html>")
    with pytest.raises(UserError, match=r"pytorch_model.bin is damaged .* delete it"):
        load_biggan_deep("biggan-deep-128")
    (served / "biggan-deep-128-pytorch_model.bin").write_bytes(real)
    (cache / "pytorch_model.bin").unlink()
    assert load_biggan_deep("biggan-deep-128").sha256 == hashlib.sha256(real).hexdigest()


def test_without_a_network_the_files_to_fetch_are_named(server):
    served, _, _ = server
    (served / "biggan-deep-128-pytorch_model.bin").unlink()
    with pytest.raises(UserError, match=r"could not be downloaded \(HTTPError: 404.*put both into one folder and give"):
        load_biggan_deep("biggan-deep-128")


def test_the_public_addresses_are_those_of_the_package():
    address = "https://s3.amazonaws.com/models.huggingface.co/biggan/biggan-deep-{}-{}"
    for side in (128, 256, 512):
        for file in ("config.json", "pytorch_model.bin"):
            assert biggan_deep.URLS[file][f"biggan-deep-{side}"] == address.format(side, file)


@pytest.mark.slow
def test_biggan_deep_128_at_its_true_size(tmp_path):
    model = make_deep()
    generator = load_generator("biggan-deep-128", save_deep(model, tmp_path), truncation=0.5)
    assert sum(parameter.numel() for parameter in model.parameters()) == 50_388_609
    assert (generator.latent_dim, generator.num_classes, len(set(generator.class_names))) == (128, 1000, 1000)
    latents, classes = generator.sample_latents(2, random_stream(0)), torch.tensor([207, 999])
    images = generator(latents, classes)
    assert images.shape == (2, 3, 128, 128) and images.std() > 0.01
    assert torch.equal(images, draw_by_package(model, generator, latents, classes, 0.5))
    reference = package.BigGAN(model.config)
    reference.load_state_dict(torch.load(tmp_path / "pytorch_model.bin", weights_only=True))
    with torch.no_grad():
        plain = reference.eval()(latents, torch.eye(1000)[classes], 0.5)
    torch.testing.assert_close(images, plain, rtol=0, atol=1e-5)
