import importlib.util
import sys
from unittest import mock

import numpy as np
import pytest
import torch

from saliency_gan.dissection import realism
from saliency_gan.dissection.realism import FeatureDistance, find_discriminator, frechet_inception_distance, read_photos
from saliency_gan.errors import UserError
from saliency_gan.generators.discriminators import read_discriminator, save_discriminator
from saliency_gan.generators.residual_discriminator import ResidualDiscriminator
from saliency_gan.images.tensors import to_signed, to_uint8
from saliency_gan.images.writing import write_image
from saliency_gan.runs.random_streams import random_stream
from saliency_gan.saliency.model import load_model
from saliency_gan.storage.bundled import bundled_folder


@pytest.fixture(scope="module")
def photos():
    return torch.rand(12, 3, 32, 32, generator=random_stream(0)).mul(256).byte().permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module")
def distance(photos):
    return FeatureDistance(load_model(), photos)


def test_images_at_once_do_not_change_the_distance(distance, photos, monkeypatch):
    monkeypatch.setattr(realism, "PIXELS_AT_ONCE", 5 * 32**2)
    images = torch.rand(7, 3, 32, 32, generator=random_stream(1)) - 0.2
    assert FeatureDistance(load_model(), photos).distance(images) == pytest.approx(distance.distance(images), rel=1e-4)


def by_loops(distance, images, photos):
    """KID's estimator, pair by pair in float64."""

    def kernel(one, other):
        return (float(one.double() @ other.double()) / len(one) + 1) ** 3

    with torch.no_grad():
        some, real = distance.features(images), distance.features(to_signed(photos))
    pairs = [(a, b) for a in range(len(some)) for b in range(len(some)) if a != b]
    real_pairs = [(a, b) for a in range(len(real)) for b in range(len(real)) if a != b]
    return (
        np.mean([kernel(some[a], some[b]) for a, b in pairs])
        + np.mean([kernel(real[a], real[b]) for a, b in real_pairs])
        - 2 * np.mean([kernel(one, other) for one in some for other in real])
    )


def test_the_distance_is_that_of_loops_in_float64(distance, photos):
    images = torch.rand(7, 3, 32, 32, generator=random_stream(1)) - 0.2
    expected = by_loops(distance, images, photos)
    assert distance.distance(images) == pytest.approx(expected, rel=1e-4)
    darker = images - 0.4
    decrease = distance.decrease_from(images)(darker)
    assert decrease.ace == pytest.approx(expected - by_loops(distance, darker, photos), rel=1e-3)
    assert decrease.low < decrease.ace < decrease.high


def test_features_have_mean_0_and_deviation_1_over_the_photos(distance, photos):
    torch.testing.assert_close(
        distance.features(to_signed(photos)).mean(0), torch.zeros(distance.photos.shape[1]), atol=1e-4, rtol=0
    )


def test_a_step_along_the_witness_comes_nearer_to_the_photos(distance):
    images = (torch.rand(8, 3, 32, 32, generator=random_stream(2)) * 0.5).requires_grad_()
    witness = distance.witness(images.detach())
    witness(images, torch.zeros(8)).sum().backward()
    moved = (images + 0.02 * images.grad / images.grad.abs().max()).detach()
    assert distance.decrease_from(images.detach())(moved).ace > 0


def test_photos_are_read_from_a_tree_and_damaged_ones_left_out(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        read_photos(tmp_path / "none", 16)
    for name in ("a.png", "deeper/b.png"):
        write_image(tmp_path / name, np.full((8, 16, 3), 255, np.uint8))
    (tmp_path / "c.png").write_bytes(b"damaged")
    photos = read_photos(tmp_path, 16)
    assert photos.shape == (2, 16, 16, 3) and (photos == 255).all()
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match="holds 1 readable images"):
        read_photos(tmp_path, 16)


def test_a_discriminator_is_found_beside_its_generator(tmp_path):
    torch.manual_seed(0)
    network = ResidualDiscriminator(5, (8, 16), 3).eval()
    save_discriminator(network, tmp_path / "discriminator.safetensors")
    images, classes = torch.rand(4, 3, 16, 16, generator=random_stream(3)), torch.tensor([0, 1, 2, 4])
    for place in (tmp_path, tmp_path / "generator.safetensors"):
        found = find_discriminator(str(place), None)
        torch.testing.assert_close(found(images, classes), network(images, classes), atol=1e-2, rtol=1e-2)
    assert find_discriminator(str(tmp_path / "elsewhere" / "generator.safetensors"), None) is None
    assert find_discriminator("sngan-mnist", None) is None  # bundled without one
    bundled = find_discriminator("biggan-caltech101-64", None)
    assert bundled.judge.embedding.num_embeddings == 59 and not any(one.requires_grad for one in bundled.parameters())


@pytest.mark.parametrize("name", ["generator.safetensors", "none.safetensors"])
def test_what_is_no_discriminator_is_refused(name):
    with pytest.raises(UserError, match=r"no discriminator|missing"):
        read_discriminator(bundled_folder("biggan-caltech101-64") / name)


def test_fid_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(UserError, match=r"pip install 'saliency-gan\[fid\]'"):
        realism.require_fidelity()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch_fidelity") is None, reason="FID needs torch-fidelity")
def test_fid_is_that_of_the_features_of_the_network(tmp_path):
    from torch_fidelity import feature_extractor_inceptionv3 as inception

    torch.manual_seed(0)
    network_class = inception.FeatureExtractorInceptionV3
    with mock.patch.object(network_class, "load_state_dict"), mock.patch.object(inception, "load_state_dict_from_url"):
        network = network_class("random", ["2048"])
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    one, two = (torch.rand(6, 3, 32, 32, generator=random_stream(seed)) * 2 - 1 for seed in (4, 5))
    found = frechet_inception_distance(to_uint8(one), two * 0.5, tmp_path / "inception.pth")
    sets = []
    for images in (one, two * 0.5):
        pixels = torch.from_numpy(to_uint8(images)).permute(0, 3, 1, 2)
        sets.append(network(pixels)[0].double().numpy())
    means, covariances = [some.mean(0) for some in sets], [np.cov(some, rowvar=False) for some in sets]
    roots = np.linalg.eigvals(covariances[0] @ covariances[1])
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1])
    expected -= 2 * np.sqrt(np.abs(roots)).sum()
    assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.skipif(importlib.util.find_spec("torch_fidelity") is None, reason="FID needs torch-fidelity")
def test_weights_of_another_network_are_refused(photos, tmp_path):
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="Inception weights"):
        frechet_inception_distance(photos, to_signed(photos), tmp_path / "other.pth")
