import dataclasses

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from saliency_gan.generators.distance import SHOWN, compare, measure_generator
from saliency_gan.generators.training_images import TrainingImages
from saliency_gan.generators.zoo import load_generator
from saliency_gan.images.tensors import to_uint8


def drawn(seed, count, mean=0.0, scale=1.0, dims=6):
    return np.random.default_rng(seed).normal(mean, scale, (count, dims)) * np.arange(1, dims + 1)


def test_frechet_distance_is_that_of_the_matrix_square_root():
    generated, photos = drawn(0, 500, mean=0.3), drawn(1, 400, scale=1.4)
    one, other = np.cov(generated.T), np.cov(photos.T)
    expected = ((generated.mean(0) - photos.mean(0)) ** 2).sum() + np.trace(one + other - 2 * sqrtm(one @ other).real)
    found = compare(generated, photos)
    assert found.frechet == pytest.approx(expected, rel=1e-6)
    assert found.low < found.frechet < found.high
    assert (found.generated, found.photos) == (500, 400)


def test_the_interval_holds_the_distance_of_fresh_images():
    photos = drawn(1, 2000)
    found = compare(drawn(0, 2000, mean=0.2), photos)
    others = [compare(drawn(seed, 2000, mean=0.2), photos).frechet for seed in range(2, 12)]
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.std(others), rel=0.35)


def test_the_same_images_are_at_no_distance_and_are_copies():
    photos = drawn(0, 300)
    found = compare(photos, photos)
    assert found.frechet == pytest.approx(0, abs=1e-6)
    assert found.precision == found.coverage == found.copies == 1
    # Of itself and the neighbours that have it within their radius; the k-th neighbour is no part of the open ball.
    assert found.density == pytest.approx(1, abs=0.25)


def test_shares_are_those_of_a_loop():
    generated, photos = drawn(0, 60, mean=0.5), drawn(1, 80)
    radii = [sorted(np.linalg.norm(photos - photo, axis=1))[5] for photo in photos]  # the first is the photo itself
    nearest = [sorted(np.linalg.norm(photos - photo, axis=1))[1] for photo in photos]
    inside = [
        [np.linalg.norm(image - photo) < radius for photo, radius in zip(photos, radii, strict=True)]
        for image in generated
    ]
    found = compare(generated, photos)
    assert found.precision == pytest.approx(np.mean([any(row) for row in inside]))
    assert found.density == pytest.approx(np.mean([sum(row) / 5 for row in inside]))
    assert found.coverage == pytest.approx(np.mean([any(row[index] for row in inside) for index in range(80)]))
    copies = []
    for image in generated:
        distances = np.linalg.norm(photos - image, axis=1)
        copies.append(distances.min() < nearest[distances.argmin()] / 2)
    assert found.copies == pytest.approx(np.mean(copies))


def test_copies_of_photos_that_are_there_twice_are_found():
    photos = drawn(0, 100)
    twice = np.concatenate([photos, photos + 1e-6])
    assert compare(photos, twice).copies == 1
    assert compare(drawn(2, 100), twice).copies < 0.2


def test_images_that_cover_one_place_cover_few_photos():
    found = compare(drawn(0, 300) * 0.01, drawn(1, 300))
    assert found.coverage < 0.2 and found.precision > 0.9
    far = compare(drawn(0, 300, mean=20), drawn(1, 300))
    assert far.precision == far.coverage == far.copies == 0


def test_a_generator_is_nearest_to_its_own_images():
    generator = load_generator("sngan-mnist")
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        images = to_uint8(generator(generator.sample_latents(32, random), torch.zeros(32, dtype=torch.int64)))
    data = TrainingImages(images, torch.zeros(32, dtype=torch.int64), ("digit",), ())
    own, picture = measure_generator(generator, data, 24, torch.device("cpu"), 0)
    assert picture.shape[2] == 3
    assert picture.shape[1] // SHOWN >= generator.resolution
    noise = np.random.default_rng(0).integers(0, 256, images.shape, np.uint8)
    other, _ = measure_generator(generator, dataclasses.replace(data, images=noise), 24, torch.device("cpu"), 0)
    assert own.frechet < other.frechet / 3
    assert own.precision > 0.5 > other.precision
    again, _ = measure_generator(generator, data, 24, torch.device("cpu"), 0)
    assert again == own
