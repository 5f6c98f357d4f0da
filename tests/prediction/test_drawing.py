from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from saliency_gan.errors import UserError
from saliency_gan.images import ImageArray
from saliency_gan.images.reading import read_picture
from saliency_gan.images.writing import encode, write_image
from saliency_gan.prediction import strips
from saliency_gan.prediction.backgrounds import Background
from saliency_gan.prediction.drawing import OTSU_FALLBACK, PHOTO_SUFFIXES, check_length, draw, find_threshold
from saliency_gan.prediction.marked_photo import MarkedPhoto

CLEAR = Background("transparent")


def marked(threshold: float = 0.6) -> MarkedPhoto:
    return MarkedPhoto(np.full((1, 3, 3), 100, np.uint8), np.array([[0.0, 0.6, 1.0]], np.float32), threshold)


def test_kinds_follow_their_formulas() -> None:
    np.testing.assert_array_equal(draw("map", marked(), CLEAR), [[0, 153, 255]])
    np.testing.assert_array_equal(draw("map16", marked(), CLEAR), [[0, 39321, 65535]])
    assert draw("map16", marked(), CLEAR).dtype == np.uint16
    np.testing.assert_array_equal(draw("mask", marked(), CLEAR), [[0, 255, 255]])
    cutout = draw("cutout", marked(), CLEAR)
    np.testing.assert_array_equal(cutout[0, :, 3], [0, 128, 255])
    assert (cutout[:, :, :3] == 100).all()
    tinted = draw("overlay", marked(), CLEAR)
    np.testing.assert_array_equal(tinted[0, :, 0], [100, 156, 193])  # 100 to 255 by 0.6 p


def test_photos_that_a_format_cannot_hold_are_refused() -> None:
    kinds = ("map", "overlay")
    long, longest = (np.zeros((1, width, 3), np.uint8) for width in (65_501, 1_000_001))
    check_length(Path("x.png"), long[:, :-1], kinds)
    with pytest.raises(UserError, match=r"too long for the overlay, for \.jpg files end at 65,500 pixels: save others"):
        check_length(Path("x.png"), long, kinds)
    with pytest.raises(UserError, match=r"for the map and overlay, for \.png files end at 1,000,000 pixels and \.jpg"):
        check_length(Path("x.png"), longest, kinds)
    for kind, image in (("overlay", long), ("map", longest)):
        with pytest.raises(ValueError, match="cannot be written as"):
            encode(image, PHOTO_SUFFIXES[kind])


@pytest.mark.parametrize("kind", PHOTO_SUFFIXES)
@pytest.mark.parametrize("background", ["transparent", "blur"])
def test_strips_draw_the_same_picture(kind: str, background: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    photo = MarkedPhoto(rng.integers(0, 256, (60, 40, 3), dtype=np.uint8), rng.random((8, 8), np.float32), 0.5)
    whole = draw(kind, photo, Background(background)).astype(int)
    monkeypatch.setattr(strips, "STRIP_PIXELS", 500)
    difference = np.abs(draw(kind, photo, Background(background)) - whole)
    assert difference.max() <= 1 or kind == "mask"
    assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize(("name", "colour"), [("white", (255, 255, 255)), ("#204060", (32, 64, 96))])
def test_a_colour_comes_through_where_the_cutout_is_not_opaque(name: str, colour: tuple[int, ...]) -> None:
    drawn = draw("cutout", marked(), Background(name))
    expected = [[round(100 * a + c * (1 - a)) for c in colour] for a in (0, 0.5, 1)]
    np.testing.assert_array_equal(drawn[0], expected)


def test_an_image_covers_the_photo_from_its_middle(tmp_path: Path) -> None:
    image = np.zeros((40, 100, 3), np.uint8)
    image[:, 30:70] = (10, 200, 30)
    write_image(tmp_path / "ground.png", image)
    background = Background(str(tmp_path / "ground.png"))
    for side in (20, 40, 90):  # smaller than the image's part, as large, larger
        photo = MarkedPhoto(np.zeros((side, side, 3), np.uint8), np.zeros((4, 4), np.float32), 0.5)
        drawn = draw("cutout", photo, background)
        assert drawn.shape == (side, side, 3)
        assert (drawn == (10, 200, 30)).all()


def test_blur_holds_nothing_of_what_stands_out() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    image[:, :] = (0, 120, 0)
    image[40:60, 40:60] = (255, 0, 0)
    saliency = np.zeros((100, 100), np.float32)
    saliency[38:62, 38:62] = 1
    rows = Background("blur").behind(MarkedPhoto(image, saliency, 0.5))(slice(0, 100))
    ring = np.ones((100, 100), bool)
    ring[38:62, 38:62] = False
    assert np.abs(rows[ring] - (0, 120, 0)).max() < 3
    plain = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 6)
    assert np.abs(plain[ring] - (0, 120, 0)).max() > 60  # what an ordinary blur would do


def test_blur_blurs() -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    photo = MarkedPhoto(image, np.zeros((8, 8), np.float32), 0.5)
    rows = Background("blur").behind(photo)(slice(0, 300))
    assert rows.std() < image.std() / 10
    assert abs(rows.mean() - image.mean()) < 3


@pytest.mark.parametrize(("name", "message"), [("#12", "six hexadecimal"), ("nowhere.png", "no file"), ("", "no file")])
def test_backgrounds_that_are_none_are_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Background(name)


def test_a_damaged_background_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"a\.png"):
        Background(str(tmp_path / "a.png"))


def otsu_by_hand(values: NDArray[np.uint8]) -> int:
    """The last value below the threshold with the largest variance between the classes."""
    best, chosen = -1.0, 0
    for last in range(255):
        low, high = values[values <= last].astype(float), values[values > last].astype(float)
        if len(low) and len(high):
            between = len(low) * len(high) * (low.mean() - high.mean()) ** 2
            if between > best * (1 + 1e-12):
                best, chosen = between, last
    return chosen


def test_otsu_separates_as_its_definition() -> None:
    rng = np.random.default_rng(3)
    for low, high in ((0.1, 0.7), (0.05, 0.3), (0.5, 0.9)):
        saliency = np.concatenate([rng.normal(low, 0.05, 700), rng.normal(high, 0.08, 300)])
        saliency = saliency.clip(0, 1).astype(np.float32).reshape(25, 40)
        values = (saliency * 255).round().astype(np.uint8)
        threshold = find_threshold(saliency, "otsu")
        np.testing.assert_array_equal(saliency >= threshold, values > otsu_by_hand(values))


def test_a_flat_map_has_a_fixed_threshold_and_a_number_stays() -> None:
    assert find_threshold(np.full((9, 9), 0.3, np.float32), "otsu") == OTSU_FALLBACK
    assert find_threshold(np.full((9, 9), 0.3, np.float32), 0.25) == 0.25
    with pytest.raises(UserError, match="otsu"):
        find_threshold(np.zeros((2, 2), np.float32), "best")


def test_a_transparent_photo_stays_transparent_in_its_own_colours(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rgba = rng.integers(0, 256, (60, 40, 4), dtype=np.uint8)
    rgba[:30, :, 3] = 255
    write_image(tmp_path / "x.png", rgba)
    picture = read_picture(tmp_path / "x.png")
    photo = MarkedPhoto(picture.rgb, rng.random((8, 8), np.float32), 0.5)
    before = draw("cutout", photo, CLEAR).astype(float)
    cutout = draw("cutout", photo, CLEAR, picture.rgba)
    np.testing.assert_array_equal(cutout[:, :, :3], rgba[:, :, :3])
    expected = before[:, :, 3] * rgba[:, :, 3] / 255
    assert np.abs(cutout[:, :, 3] - expected).max() <= 1
    np.testing.assert_array_equal(cutout[:30, :, 3], before[:30, :, 3])
    green = draw("cutout", photo, Background("#00ff00"), picture.rgba)
    alpha = expected[:, :, None] / 255
    assert np.abs(green - (rgba[:, :, :3] * alpha + np.array((0, 255, 0)) * (1 - alpha))).max() <= 2


def test_clean_colours_stay_where_a_photo_is_opaque() -> None:
    class Cleaned(MarkedPhoto):
        def colours(self, rows: slice) -> ImageArray:
            return np.full_like(self.image[rows], 7)

    rgba = np.full((2, 3, 4), 200, np.uint8)
    rgba[0, :, 3] = 255
    photo = Cleaned(np.full((2, 3, 3), 100, np.uint8), np.ones((2, 3), np.float32), 0.5)
    cutout = draw("cutout", photo, CLEAR, rgba)
    assert cutout[:, 0].tolist() == [[7, 7, 7, 255], [200, 200, 200, 200]]
