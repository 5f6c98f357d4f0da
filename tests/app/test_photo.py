from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from saliency_gan.app.photo import PREVIEW_SIDE, Look, Photo, draw_pictures, mark, parse_colour, write_pictures
from saliency_gan.config import PredictConfig
from saliency_gan.errors import UserError
from saliency_gan.images import ImageArray
from saliency_gan.images.reading import read_image
from saliency_gan.images.writing import encode
from saliency_gan.prediction.predict import predict
from saliency_gan.saliency.photo_predictor import PhotoPredictor, SaliencyMap

SAMPLE = Path(__file__).parents[2] / "data/samples/images/pet_Maine_Coon_201.jpg"


class Brightness:
    """A network whose saliency is the brightness, and that counts how often it runs."""

    resolution = 64
    runs = 0

    def maps(self, squares: ImageArray) -> SaliencyMap:
        self.runs += 1
        return squares.astype(np.float32).mean(axis=3) / 255


@pytest.fixture
def network() -> Brightness:
    return Brightness()


@pytest.fixture
def photo(network: Brightness) -> Photo:
    random = np.random.default_rng(0)
    image = cv2.resize(random.integers(0, 256, (6, 8, 3), np.uint8), (1600, 1200), interpolation=cv2.INTER_CUBIC)
    return mark(PhotoPredictor(network, flip=False), encode(np.asarray(image)), "some photo.png")


def stretched(photo: Photo) -> np.ndarray:
    return cv2.resize(photo.saliency, (800, 600), interpolation=cv2.INTER_LINEAR)


def test_pictures_follow_the_formulas(photo: Photo) -> None:
    assert photo.name == "some photo" and photo.preview.shape == (600, PREVIEW_SIDE, 3)
    saliency = stretched(photo)
    pictures = draw_pictures(photo, Look(0.4))
    np.testing.assert_array_equal(pictures.map, np.round(saliency * 255))
    np.testing.assert_array_equal(pictures.mask, 255 * (saliency >= 0.4))
    np.testing.assert_array_equal(pictures.cutout[:, :, :3], photo.preview)
    opacity = np.clip((saliency.astype(np.float64) - 0.4) * 8 + 0.5, 0, 1)
    np.testing.assert_allclose(pictures.cutout[:, :, 3], opacity * 255, atol=0.51)
    assert pictures.threshold == 0.4
    assert pictures.share == pytest.approx((saliency >= 0.4).mean())


def test_a_cutout_on_a_colour(photo: Photo) -> None:
    opacity = np.clip((stretched(photo).astype(np.float64) - 0.5) * 8 + 0.5, 0, 1)[:, :, None]
    expected = photo.preview * opacity + np.array((16, 32, 255)) * (1 - opacity)
    np.testing.assert_allclose(draw_pictures(photo, Look(0.5, background="#1020ff")).cutout, expected, atol=0.51)


def test_otsu_is_that_of_opencv(photo: Photo) -> None:
    last, _ = cv2.threshold(np.round(photo.saliency * 255).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    pictures = draw_pictures(photo, Look("otsu"))
    assert pictures.threshold == pytest.approx((last + 0.5) / 255)
    np.testing.assert_array_equal(pictures.mask > 0, stretched(photo) >= (last + 0.5) / 255)


def test_the_network_runs_once_whatever_is_chosen(photo: Photo, network: Brightness, tmp_path: Path) -> None:
    for look in (
        Look(0.2),
        Look("otsu", "guided"),
        Look(0.4, "solver"),
        Look(0.7, "guided", "blur"),
        Look(0.7, background="white"),
    ):
        draw_pictures(photo, look)
        write_pictures(photo, look, tmp_path)
    assert network.runs == 1


def test_files_are_those_of_predict(tmp_path: Path) -> None:
    from saliency_gan.saliency.predictor import load_saliency_model

    photo = mark(load_saliency_model(device="cpu"), SAMPLE.read_bytes(), SAMPLE.name)
    written = write_pictures(photo, Look("otsu", "guided", "#204060"), tmp_path / "app")
    settings = {"threshold": "otsu", "refine": "guided", "background": "#204060", "save": ("map", "mask", "cutout")}
    settings["precision"] = "fp32"
    assert predict(PredictConfig(output=tmp_path / "predict", device="cpu", **settings), [SAMPLE]) == 0
    assert [path.name for path in written] == [f"{SAMPLE.stem}-{kind}.png" for kind in ("map", "mask", "cutout")]
    for path, kind in zip(written, ("map", "mask", "cutout"), strict=True):
        np.testing.assert_array_equal(read_image(path), read_image(tmp_path / "predict" / kind / f"{SAMPLE.stem}.png"))


def test_a_transparent_photo_stays_so_on_the_page_and_in_its_files(network: Brightness, tmp_path: Path) -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (40, 50, 4), np.uint8)
    rgba[:20, :, 3] = 0
    photo = mark(PhotoPredictor(network), encode(rgba), "x.png")
    (path,) = [path for path in write_pictures(photo, Look(), tmp_path) if path.stem.endswith("cutout")]
    for cutout in (draw_pictures(photo, Look()).cutout, np.array(Image.open(path))):
        np.testing.assert_array_equal(cutout[:, :, :3], rgba[:, :, :3])
        assert (cutout[:20, :, 3] == 0).all() and (cutout[:, :, 3] <= rgba[:, :, 3]).all()


@pytest.mark.parametrize("data", [b"", b"no image", SAMPLE.read_bytes()[:2000]], ids=["empty", "text", "damaged"])
def test_what_is_no_photo_is_refused_before_the_network_runs(network: Brightness, data: bytes) -> None:
    with pytest.raises(UserError, match=r"^x\.jpg cannot be read as an image"):
        mark(PhotoPredictor(network), data, "x.jpg")
    assert network.runs == 0


@pytest.mark.parametrize(
    ("look", "named"),
    [
        (Look(background=str(SAMPLE)), "no background"),
        (Look(background="colour"), "no background"),
        (Look(refinement="sharp"), "no refinement"),  # type: ignore[arg-type]
        (Look(1.5), "between 0 and 1"),
        (Look(float("nan")), "between 0 and 1"),
    ],
)
def test_what_no_page_sends_is_refused(photo: Photo, look: Look, named: str) -> None:
    with pytest.raises(UserError, match=named):
        draw_pictures(photo, look)


def test_colours_of_browsers() -> None:
    assert parse_colour("#20aFff") == "#20aFff"
    assert parse_colour("rgb(1, 2, 255)") == "#0102ff"
    assert parse_colour("rgba(15.6, 0, 300, 0.5)") == "#1000ff"
    for text in ("", "red", "#12", "rgb(1, 2)", "/etc/passwd"):
        with pytest.raises(UserError, match="no colour"):
            parse_colour(text)
