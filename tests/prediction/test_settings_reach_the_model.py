"""What `--resolution`, `--scales` and `--flip` ask for is what the network is shown, with either runtime."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from saliency_gan.config import PredictConfig
from saliency_gan.prediction.predict import predict
from saliency_gan.saliency import model, onnx_model, predictor
from tests.saliency.test_photo_predictor import Reddish


def mean_of_views(photo: NDArray[np.uint8], sides: tuple[int, ...], columns: tuple[int, ...]) -> NDArray[np.floating]:
    """The mean of what Reddish sees at these sides; its salient column is one of `columns`, from the left or right."""
    views = []
    for side in sides:
        square = cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA if side <= 64 else cv2.INTER_LINEAR)
        for column in columns:
            red = square[:, :, 0] / 255
            red[:, column] = 1
            views.append(cv2.resize(red, (max(sides), max(sides)), interpolation=cv2.INTER_LINEAR))
    return cv2.resize(np.mean(views, axis=0), photo.shape[1::-1], interpolation=cv2.INTER_LINEAR)


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
@pytest.mark.parametrize(
    ("settings", "sides", "columns"),
    [
        ({}, (32,), (3, -4)),
        ({"flip": False}, (32,), (3,)),
        ({"scales": (1.0, 3.0)}, (32, 96), (3, -4)),
        ({"resolution": 64}, (64,), (3, -4)),
    ],
)
def test_the_network_sees_what_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: Any, settings: dict[str, Any], sides: tuple[int, ...],
    columns: tuple[int, ...],
) -> None:  # fmt: skip
    network = Reddish()
    network.metadata, network.name = {}, "by hand"
    monkeypatch.setattr(model, "load_model", lambda _: SimpleNamespace(sha256=""))
    monkeypatch.setattr(predictor, "TorchNetwork", lambda *_: network)
    monkeypatch.setattr(onnx_model, "load_onnx_model", lambda *_: network)
    photo = np.random.default_rng(0).integers(0, 200, (70, 90, 3), np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    (tmp_path / "saliency.onnx").touch()
    config = PredictConfig(
        output=tmp_path / "out", save=("map16",), device="cpu", runtime=runtime, weights=tmp_path / "saliency.onnx"
    )
    assert predict(replace(config, **settings), [tmp_path / "photo.png"]) == 0
    found = np.array(Image.open(tmp_path / "out" / "map16" / "photo.png")) / 65535
    np.testing.assert_allclose(found, mean_of_views(photo, sides, columns), atol=1e-4)
