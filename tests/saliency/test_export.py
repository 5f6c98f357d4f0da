import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from saliency_gan.cli.main import main
from saliency_gan.config import ExportConfig
from saliency_gan.errors import StageError, UserError
from saliency_gan.saliency.export import export
from saliency_gan.saliency.model import SaliencyModel
from saliency_gan.saliency.network import SaliencyArchitecture
from saliency_gan.saliency.onnx_model import OnnxNetwork
from saliency_gan.saliency.predictor import load_saliency_model
from tests.saliency.exported import export_tiny, random_squares, save_tiny, truth
from tests.saliency.toys import disc

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

SIZES = [(1, 64, 64), (5, 32, 96), (2, 160, 32)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds model.safetensors, and it as saliency.onnx."""
    folder = tmp_path_factory.mktemp("exported")
    export_tiny(folder)
    return folder


@pytest.fixture
def config(folder: Path, tmp_path: Path) -> ExportConfig:
    return ExportConfig(weights=folder / "model.safetensors", output=tmp_path / "out" / "saliency.onnx")


def code_of(card: Path) -> str:
    return re.search(r"```python\n(.*?)```", card.read_text(), re.DOTALL)[1]  # type: ignore[index]


@pytest.mark.parametrize("size", SIZES)
def test_onnx_gives_the_model_s_saliency_for_any_batch_and_size(folder: Path, size: tuple[int, int, int]) -> None:
    squares = random_squares(*size)
    session = onnxruntime.InferenceSession(folder / "saliency.onnx", providers=["CPUExecutionProvider"])
    (maps,) = session.run(None, {"images": squares})
    expected = truth(folder / "model.safetensors", squares)
    assert expected.std() > 0.01
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, expected, atol=1e-5)


def test_the_paper_s_two_outputs_become_one_map(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SaliencyModel(SaliencyArchitecture(decoder_channels=(16, 8, 8), outputs=2, resolution=32))
    torch.nn.init.normal_(model.network.segmentation_head[0].weight, std=2.0)
    network = OnnxNetwork(
        export(ExportConfig(weights=model.save(tmp_path), output=tmp_path / "two.onnx")).read_bytes(), "two"
    )
    squares = random_squares(2, 32, 64)
    signed = torch.from_numpy(squares / 127.5 - 1).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = model.eval().double().network((signed - model.mean) / model.std) / 10
    expected = logits.softmax(1)[:, 1].numpy()
    np.testing.assert_allclose(network.maps(squares), expected, atol=2e-3)  # weights are saved in half precision
    assert expected.std() > 0.01


def test_the_file_says_what_it_is(folder: Path) -> None:
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    noted = OnnxNetwork((folder / "saliency.onnx").read_bytes(), "it").metadata
    assert (noted["resolution"], noted["stride"], noted["licence"]) == ("32", "32", "not stated")
    assert noted["source_sha256"] == weights
    card = (folder / "saliency.md").read_text()
    for part in (weights, "not stated", "32 px", "uint8 [N, H, W, 3]", "float32 [N, H, W] in [0, 1]"):
        assert part in card


def test_the_card_s_examples_run_and_agree_with_predict(folder: Path, tmp_path: Path) -> None:
    assert code_of(folder / "saliency.md") == (Path(__file__).parents[2] / "examples" / "onnx_predict.py").read_text()
    assert len(code_of(folder / "saliency.md").splitlines()) <= 26
    plain = Image.fromarray(disc(0)[0]).resize((48, 64))
    photo, grey16, clear = (tmp_path / f"{name}.png" for name in ("photo", "grey16", "clear"))
    plain.save(photo)
    Image.fromarray(np.array(plain.convert("L")).astype(np.uint16) * 257).save(grey16)
    plain.putalpha(Image.linear_gradient("L").resize(plain.size))
    plain.save(clear)
    without_torch = "import sys; sys.modules['torch'] = sys.modules['cv2'] = None\n"
    model = folder / "saliency.onnx"
    code = without_torch + code_of(model.with_suffix(".md"))
    for path in (photo, grey16, clear):
        expected = load_saliency_model(folder, "cpu").predict(path) * 255
        subprocess.run([sys.executable, "-W", "ignore", "-c", code, model, path, tmp_path / "map.png"], check=True)
        map_ = np.array(Image.open(tmp_path / "map.png"))
        assert map_.shape == (64, 48)
        assert np.abs(map_ - expected).mean() < 2  # Pillow resizes a little differently
        assert expected.std() > 5


def test_what_differs_from_the_model_is_not_written(config: ExportConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "saliency_gan.saliency.export.TorchNetwork.maps", lambda _, squares: np.full(squares.shape[:3], 2, np.float32)
    )
    with pytest.raises(StageError, match=r"differs from the model by [12]\.\de\+00, more than --tolerance 1\.0e-04"):
        export(config)
    assert not config.output.parent.exists()


def test_what_is_no_number_is_not_written(config: ExportConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def maps(_: object, squares: np.ndarray) -> np.ndarray:
        return np.where(squares[..., 0] == 7, np.nan, 0.5).astype(np.float32)

    monkeypatch.setattr(OnnxNetwork, "maps", maps)
    with pytest.raises(StageError, match="by nan"):
        export(replace(config, tolerance=1.0))
    assert not config.output.parent.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output": Path("model.pt")}, r"ends in \.onnx"),
        ({"tolerance": 0.0}, "tolerance is 0.0"),
        ({"weights": Path("nowhere")}, "There is no saliency model"),
        ({"images": Path("nowhere")}, "There is no folder nowhere"),
    ],
)
def test_mistakes_are_told_in_one_sentence(config: ExportConfig, change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        export(replace(config, **change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("library", ["onnx", "onnxruntime"])
def test_a_missing_library_is_named_with_its_command(
    config: ExportConfig, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError, match=rf"{library} is needed.*pip install {library}\."):
        export(config)


def test_a_network_that_torch_cannot_export_is_one_sentence(
    config: ExportConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no symbolic\nfor aten::this")

    monkeypatch.setattr("torch.onnx.export", fail)
    with pytest.raises(StageError, match=r"cannot be exported as onnx by torch .* \(no symbolic for aten::this\)"):
        export(config)


def test_a_file_in_place_of_the_folder_is_reported(config: ExportConfig, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(StageError, match="Could not write"):
        export(config)


def test_the_verb_exports_and_compares_on_given_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    Image.fromarray(disc(4)[0]).save(tmp_path / "photos" / "photo.png")
    words = ["--weights", str(save_tiny(tmp_path)), "--images", str(tmp_path / "photos"), "--licence", "CC BY 4.0"]
    assert main(["export", *words, "--run", str(tmp_path / "run")]) == 0
    assert re.search(r"in four sizes: \d\.\de[-+]\d\d\n", capsys.readouterr().out)
    written = sorted(path.name for path in (tmp_path / "run" / "export").iterdir())
    assert written == ["saliency.md", "saliency.onnx"]
    assert "| CC BY 4.0 |" in (tmp_path / "run" / "export" / "saliency.md").read_text()


def test_the_bundled_model_goes_to_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALIENCY_GAN_CACHE", str(tmp_path))
    for weights in (None, Path("bundled")):
        target, card = ExportConfig(weights=weights).writes()
        assert re.fullmatch(r"saliency-[0-9a-f]{12}\.onnx", target.name)
        assert target.parent == tmp_path / "exports"
        assert card == target.with_suffix(".md")


def test_a_file_of_the_user_in_the_place_of_the_card_is_kept(tmp_path: Path) -> None:
    weights = save_tiny(tmp_path / "model")
    (tmp_path / "notes.md").write_text("my notes")
    with pytest.raises(UserError, match=r"notes.md is no model card of an export"):
        export(ExportConfig(weights=weights, output=tmp_path / "notes.onnx"))
    assert (tmp_path / "notes.md").read_text() == "my notes"
    for _ in range(2):
        export(ExportConfig(weights=weights, output=tmp_path / "saliency.onnx"))
