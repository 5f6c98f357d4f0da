import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import saliency_gan
from saliency_gan.errors import UserError
from saliency_gan.saliency.model import SaliencyModel
from saliency_gan.saliency.predictor import Predictor, load_saliency_model, resize, stretch
from tests.saliency.toys import TINY_ARCHITECTURE, disc

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> SaliencyModel:
    torch.manual_seed(3)
    model = SaliencyModel(TINY_ARCHITECTURE).eval()
    torch.nn.init.normal_(model.network.segmentation_head[0].weight, std=0.5)
    return model


def logits_of(model: SaliencyModel, square: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.from_numpy(square.copy())[None].permute(0, 3, 1, 2).double().div(127.5).sub(1).float())[0, 0]


def test_the_map_is_the_mean_of_the_views(model: SaliencyModel) -> None:
    photo = cv2.resize(disc(0)[0], (80, 50))
    views = []
    for side in (32, 64):
        square = cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA if side < 50 else cv2.INTER_LINEAR)
        for flip in (False, True):
            logits = logits_of(model, square[:, ::-1] if flip else square)
            logits = logits.flip(1) if flip else logits
            large = torch.nn.functional.interpolate(logits.sigmoid()[None, None], size=(64, 64), mode="bilinear")
            views.append(large[0, 0].numpy())
    expected = cv2.resize(np.mean(views, axis=0), (80, 50), interpolation=cv2.INTER_LINEAR)
    actual = Predictor(model, CPU, scales=(1.0, 2.0)).predict(photo)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert expected.std() > 0.01


def test_flipping_makes_the_map_of_a_mirrored_photo_the_mirrored_map(model: SaliencyModel) -> None:
    photo, _ = disc(1, 40)
    for flip, equal in ((True, True), (False, False)):
        predictor = Predictor(model, CPU, flip=flip)
        mirrored = predictor.predict(np.ascontiguousarray(photo[:, ::-1]))[:, ::-1]
        assert np.allclose(predictor.predict(photo), mirrored, atol=1e-5) is equal


def test_a_batch_gives_the_maps_of_its_photos(model: SaliencyModel) -> None:
    photos = [cv2.resize(disc(seed)[0], size) for seed, size in enumerate(((33, 57), (400, 300), (7, 90)))]
    predictor = Predictor(model, CPU)
    for photo, map_ in zip(photos, predictor.predict_batch(photos), strict=True):
        assert map_.shape == photo.shape[:2]
        np.testing.assert_allclose(map_, predictor.predict(photo), atol=1e-5)
    assert predictor.predict_batch([]) == []
    alike = np.stack([disc(seed)[0] for seed in range(2)])
    np.testing.assert_array_equal(predictor.predict_batch(alike), predictor.predict_batch(list(alike)))


def test_torchs_default_type_does_not_matter(model: SaliencyModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    photo, _ = disc(3)
    expected = load_saliency_model(tmp_path, "cpu").predict(photo)
    try:
        torch.set_default_dtype(torch.float64)
        np.testing.assert_array_equal(load_saliency_model(tmp_path, "cpu").predict(photo), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("resolution", "scales"), [(100_000, (1.0,)), (4096, (1.0, 1.5))])
def test_squares_that_no_machine_could_hold_are_refused(
    model: SaliencyModel, resolution: int, scales: tuple[float, ...]
) -> None:
    with pytest.raises(UserError, match="px, but has to be at most 4096"):
        Predictor(model, CPU, resolution, scales)


def test_arrays_pillow_images_and_paths_are_alike(model: SaliencyModel, tmp_path: Path) -> None:
    photo, _ = disc(2)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    predictor = Predictor(model, CPU)
    expected = predictor.predict(photo)
    for same in (Image.fromarray(photo), tmp_path / "photo.png", str(tmp_path / "photo.png")):
        np.testing.assert_array_equal(predictor.predict(same), expected)


def test_a_pillow_image_is_turned_as_its_exif_says(model: SaliencyModel) -> None:
    image = Image.fromarray(disc(2)[0]).resize((30, 20))
    image.getexif()[0x0112] = 6
    assert Predictor(model, CPU).predict(image).shape == (30, 20)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (3000, 12)])
def test_any_shape_has_a_map(model: SaliencyModel, size: tuple[int, int]) -> None:
    map_ = Predictor(model, CPU).predict(np.full((*size, 3), 77, np.uint8))
    assert map_.shape == size
    assert np.isfinite(map_).all()
    assert 0 <= map_.min() <= map_.max() <= 1


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8), 7]
)
def test_what_is_no_image_is_refused(model: SaliencyModel, image: object) -> None:
    with pytest.raises(UserError, match="uint8 \\[H, W, 3\\]"):
        Predictor(model, CPU).predict(image)  # type: ignore[arg-type]


def test_bf16_is_close_to_fp32(model: SaliencyModel) -> None:
    photo, _ = disc(5)
    full, half = (Predictor(model, CPU, precision=precision).predict(photo) for precision in ("fp32", "bf16"))
    np.testing.assert_allclose(half, full, atol=0.05)
    assert not np.array_equal(half, full)


def test_settings_out_of_range_are_refused(model: SaliencyModel) -> None:
    for settings in ({"resolution": 0}, {"scales": ()}, {"scales": (1.0, -1.0)}):
        with pytest.raises(UserError, match=r"has to (be|hold factors above)"):
            Predictor(model, CPU, **settings)


def test_resizing_averages_where_it_shrinks() -> None:
    image = np.random.default_rng(0).integers(0, 256, (96, 64, 3), dtype=np.uint8)
    expected = image.astype(float).reshape(32, 3, 32, 2, 3).mean(axis=(1, 3))
    assert np.abs(resize(image, 32) - expected).max() <= 0.51


def test_a_panorama_is_averaged_along_its_long_side() -> None:
    image = np.zeros((30, 400, 3), np.uint8)
    image[:, ::13] = 255  # bilinear interpolation alone would meet only some of these columns
    expected = image.reshape(30, 40, 10, 3).mean((0, 2))
    assert np.abs(resize(image, 40) - expected).max() <= 1


def test_stretching_is_bilinear() -> None:
    small = np.array([[0.0, 1.0], [1.0, 1.0]], np.float32)
    np.testing.assert_allclose(stretch(small, (2, 4))[0], [0.0, 0.25, 0.75, 1.0])


def test_the_package_offers_loading_without_importing_torch(trained: Path) -> None:
    script = "import saliency_gan, sys; print('torch' in sys.modules, 'numpy' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.split() == ["False"] * 2
    )
    with pytest.raises(AttributeError, match="nothing"):
        saliency_gan.nothing  # noqa: B018
    photo, mask = disc(2000, 64)
    map_ = saliency_gan.load_saliency_model(trained / "saliency" / "model.safetensors", "cpu").predict(photo)
    assert ((map_ > 0.5) == (mask > 0)).mean() > 0.95
