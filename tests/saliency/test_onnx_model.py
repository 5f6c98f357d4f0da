import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from saliency_gan.compute.processes import cores
from saliency_gan.errors import StageError, UserError
from saliency_gan.images.writing import write_image
from saliency_gan.saliency.model import load_model
from saliency_gan.saliency.onnx_model import FORMAT, OnnxNetwork, load_onnx_model
from saliency_gan.saliency.photo_predictor import PhotoPredictor
from saliency_gan.saliency.predictor import Predictor
from tests.saliency.exported import STUDENT_ARCHITECTURE, export_tiny, random_squares, truth
from tests.saliency.toys import disc

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_tiny(tmp_path_factory.mktemp("model"))


def other_model(metadata: dict[str, str], output: str = "saliency", dimensions: int = 4) -> bytes:
    """An ONNX model that turns bytes into float32 and does nothing else."""
    shape = [None] * dimensions
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Cast", ["images"], [output], to=onnx.TensorProto.FLOAT)],
        "other",
        [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, shape)],
        [onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, shape)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.helper.set_model_props(model, metadata)
    return model.SerializeToString()


def test_maps_are_those_of_the_model(exported: Path) -> None:
    squares = random_squares(3, 64, 32)
    network = load_onnx_model(exported, "cpu")
    assert network.resolution == 32
    np.testing.assert_allclose(
        network.maps(squares), truth(exported.with_name("model.safetensors"), squares), atol=1e-5
    )


def test_a_student_is_exported_as_torch_computes_it(tmp_path: Path) -> None:
    """Its encoder has no norms, and its decoder ends at half the resolution."""
    path = export_tiny(tmp_path, architecture=STUDENT_ARCHITECTURE)
    squares = random_squares(2, 64, 32)
    expected = truth(path.with_name("model.safetensors"), squares)
    assert expected.std() > 0.05
    np.testing.assert_allclose(load_onnx_model(path, "cpu").maps(squares), expected, atol=1e-5)


def test_photos_are_marked_as_by_torch(exported: Path) -> None:
    photos = [cv2.resize(disc(seed)[0], size) for seed, size in enumerate(((33, 57), (200, 150), (7, 90)))]
    by_torch = Predictor(load_model(exported.parent), torch.device("cpu"), 64, (1.0, 1.5)).predict_batch(photos)
    by_onnx = PhotoPredictor(load_onnx_model(exported), 64, (1.0, 1.5)).predict_batch(photos)
    for one, other in zip(by_onnx, by_torch, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
        assert one.dtype == np.float32


def test_a_photo_is_marked_and_written_without_importing_torch(exported: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "photo.png", disc(1)[0])
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from saliency_gan.images.writing import write_image\n"
        "from saliency_gan.saliency.onnx_model import load_onnx_model\n"
        "from saliency_gan.saliency.photo_predictor import PhotoPredictor\n"
        "map_ = PhotoPredictor(load_onnx_model(Path(sys.argv[1]))).predict(sys.argv[2])\n"
        "write_image(Path(sys.argv[3]), (map_ * 255).round().astype('uint8'))\n"
        "heavy = ('torch', 'lightning_fabric', 'segmentation_models_pytorch', 'onnx')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    words = [sys.executable, "-c", script, str(exported), str(tmp_path / "photo.png"), str(tmp_path / "map.png")]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() == "[]"
    expected = Predictor(load_model(exported.parent), torch.device("cpu")).predict(tmp_path / "photo.png")
    assert np.abs(cv2.imread(str(tmp_path / "map.png"), cv2.IMREAD_GRAYSCALE) - expected * 255).max() <= 0.51


def test_predict_writes_the_maps_of_torch_without_importing_it(exported: Path, tmp_path: Path) -> None:
    for seed in range(3):
        write_image(tmp_path / "in" / f"{seed}.png", disc(seed)[0])
    script = (
        "import sys\n"
        "from saliency_gan.cli.main import main\n"
        "code = main(sys.argv[1:])\n"
        "heavy = ('torch', 'lightning_fabric', 'segmentation_models_pytorch')\n"
        "print(code, [name for name in heavy if name in sys.modules])"
    )
    words = ["predict", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--save", "map", "--runtime", "onnx"]
    done = subprocess.run(
        [sys.executable, "-c", script, *words, "--weights", str(exported)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 []"
    by_torch = Predictor(load_model(exported.parent), torch.device("cpu"))
    for path in sorted((tmp_path / "in").iterdir()):
        map_ = cv2.imread(str(tmp_path / "out" / "map" / path.name), cv2.IMREAD_GRAYSCALE)
        assert np.abs(map_ - by_torch.predict(path) * 255).max() <= 0.51


def test_damaged_files_are_one_sentence(exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = exported.read_bytes()
    noise = np.random.default_rng(0).bytes(1000)
    for data in (b"", b"text\n", noise, whole[: len(whole) // 2], whole[:100], b"\x00" + whole[1:]):
        (tmp_path / "broken.onnx").write_bytes(data)
        with pytest.raises(UserError, match=r"broken\.onnx is ") as caught:
            load_onnx_model(tmp_path / "broken.onnx")
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("metadata", "output"),
    [
        ({}, "saliency"),
        ({"format": FORMAT}, "saliency"),
        ({"format": FORMAT, "resolution": "-3"}, "saliency"),
        ({"format": FORMAT, "resolution": "64"}, "classes"),
    ],
)
def test_other_models_are_refused(metadata: dict[str, str], output: str) -> None:
    with pytest.raises(UserError, match="none that saliency-gan export wrote"):
        OnnxNetwork(other_model(metadata, output), "it")


def test_a_network_that_answers_with_no_maps_is_refused() -> None:
    network = OnnxNetwork(other_model({"format": FORMAT, "resolution": "32"}), "it")
    with pytest.raises(UserError, match=r"it gave float32 \[1, 32, 32, 3\]"):
        network.maps(random_squares(1, 32, 32))


def test_a_failure_of_onnxruntime_is_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    network = OnnxNetwork(other_model({"format": FORMAT, "resolution": "32"}, dimensions=2), "it")
    with pytest.raises(StageError, match=r"could not compute maps of \[1, 32, 32, 3\]") as caught:
        network.maps(random_squares(1, 32, 32))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "squares",
    [
        np.zeros((1, 32, 32, 3), np.float32),
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((1, 3, 32, 32), np.uint8),
        np.zeros((1, 32, 48, 3), np.uint8),
    ],
)
def test_wrong_inputs_are_refused(exported: Path, squares: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"uint8 \[N, H, W, 3\] with H and W multiples of 32, but are"):
        load_onnx_model(exported).maps(squares)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.onnx", "There is no file .*gone.onnx"),
        ("model.safetensors", "is no .onnx file.*export --weights .*model.safetensors"),
        (".", "is no .onnx file"),
        ("folder.onnx", "cannot be read"),
    ],
)
def test_other_paths_say_what_to_do(exported: Path, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(UserError, match=message):
        load_onnx_model(tmp_path / name)


def test_the_bundled_model_is_found_once_it_is_exported(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SALIENCY_GAN_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"not exported yet .* run `saliency-gan export`") as caught:
        load_onnx_model()
    place = Path(str(caught.value).partition("(")[2].partition(" is missing")[0])
    place.parent.mkdir()
    place.write_bytes(exported.read_bytes())
    assert load_onnx_model().resolution == 32


def test_a_device_that_onnxruntime_lacks_is_refused(exported: Path) -> None:
    with pytest.raises(UserError, match="--device mps was asked for"):
        load_onnx_model(exported, "mps")


def test_without_onnxruntime_the_command_is_named(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="pip install onnxruntime"):
        load_onnx_model(exported)


@pytest.mark.parametrize(("told", "threads"), [("3", 3), ("", None), ("0", None), ("2,4", None)])
def test_threads_are_those_of_the_process(
    exported: Path, told: str, threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    seen = load_onnx_model(exported, "cpu")._session.get_session_options().intra_op_num_threads
    assert seen == (threads or cores())
