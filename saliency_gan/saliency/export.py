"""`export`: writes a saliency model as ONNX, after comparing the export with the model."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import cv2
import jinja2
import numpy as np
import torch
from torch import Tensor, nn

from saliency_gan.config import ExportConfig
from saliency_gan.errors import StageError, UserError, reason_of
from saliency_gan.images import ImageArray
from saliency_gan.images.folders import find_images
from saliency_gan.images.reading import read_image
from saliency_gan.runs.random_streams import Stream, random_stream
from saliency_gan.saliency.model import SaliencyModel, load_model
from saliency_gan.saliency.onnx_model import FORMAT, INPUT, OUTPUT, OnnxNetwork, import_onnxruntime
from saliency_gan.saliency.photo_predictor import STRIDE
from saliency_gan.saliency.predictor import TorchNetwork
from saliency_gan.storage.files import write_bytes, write_text

OPSET = 17
BUNDLED_TERMS = (
    "the terms of ImageNet and Flickr8k, which are for non-commercial research; the photos of PACS have no licence;"
    " Caltech-101 is CC BY 4.0"
)
COMPARED_IMAGES = 8
GENERATED_PICTURES = "weights/biggan-caltech101-64/samples.png"


def export(config: ExportConfig) -> Path:
    """Writes a saliency model as an ONNX file for other programs, and a model card beside it.

    The exported network takes images, uint8 [N, H, W, 3], and returns saliency in [0, 1], float32 [N, H, W]. N is any
    number; H and W are multiples of 32. The network contains scaling, normalisation and sigmoid. Before it is written,
    it is compared with the model at several sizes and batches.

    Returns:
        The ONNX file; its card has the suffix .md.

    Raises:
        UserError: If a setting or the model cannot be used, or onnx or onnxruntime is not installed.
        StageError: If the network cannot be exported, differs from the model, or cannot be written.
    """
    config.check()
    onnx = _import_onnx()
    target, model = config.target, load_model(config.model.path)
    _check_card(target)
    metadata = _describe(model, config)
    images = _read_images(config)
    data = _to_onnx(onnx, model, metadata)
    candidate = OnnxNetwork(data, str(target), "cpu").maps
    expected = TorchNetwork(model, torch.device("cpu")).maps
    compared = _squares(images, model.architecture.resolution, config.seed)
    # np.max, unlike max, returns NaN if any value is NaN.
    difference = float(np.max([np.abs(candidate(squares) - expected(squares)).max() for squares in compared]))
    print(f"largest difference of saliency to torch, random images and pictures in four sizes: {difference:.1e}")
    if not difference <= config.tolerance:
        raise StageError(
            f"The export differs from the model by {difference:.1e}, more than --tolerance {config.tolerance:.1e}, so"
            f" {target} was not written: try another version of torch."
        )
    write_bytes(target, data)
    write_text(target.with_suffix(".md"), _card(target, metadata, difference))
    print(f"{target} ({len(data) / 1e6:.1f} MB) and its card {target.with_suffix('.md')} written")
    return target


def _check_card(target: Path) -> None:
    """Refuses to replace a file of the user by the model card."""
    card = target.with_suffix(".md")
    if card.exists() and not (card.is_file() and card.read_bytes().startswith(f"# {target.name}\n".encode())):
        raise UserError(
            f"{card} is no model card of an export, and the card would replace it: choose another --output, or move it"
            " away."
        )


class _Deployed(nn.Module):
    """The model with 8-bit images as input and saliency as output."""

    def __init__(self, model: SaliencyModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [N, H, W, 3] -> float32 [N, H, W] in [0, 1]."""
        signed = images.permute(0, 3, 1, 2).float().div(127.5).sub(1)
        return self.model(signed).sigmoid()[:, 0]


def _to_onnx(onnx: ModuleType, model: SaliencyModel, metadata: dict[str, str]) -> bytes:
    """Exports by tracing. torch's newer exporter takes a minute longer and stores paths of source files."""
    buffer = io.BytesIO()
    with _explained(model):
        torch.onnx.export(
            _Deployed(model).eval(),
            (_example(model),),
            buffer,  # type: ignore[arg-type]  # the exporter by tracing takes it
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={name: {0: "batch", 1: "height", 2: "width"} for name in (INPUT, OUTPUT)},
        )
        exported = onnx.load_model_from_string(buffer.getvalue())
        onnx.helper.set_model_props(exported, metadata)
        onnx.checker.check_model(exported)
    return exported.SerializeToString()


@contextmanager
def _explained(model: SaliencyModel) -> Iterator[None]:
    """Turns any error of torch's exporter into a StageError, and suppresses its warnings."""
    network = model.architecture
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # about constants in the trace, and about deprecation
            yield
    except Exception as error:
        raise StageError(
            f"{network.architecture} with encoder {network.encoder} cannot be exported as onnx by torch"
            f" {torch.__version__} ({reason_of(error)}): try another version of torch."
        ) from None


def _example(model: SaliencyModel) -> Tensor:
    side = model.architecture.resolution
    return torch.zeros(2, side, side + STRIDE, 3, dtype=torch.uint8)


def _squares(images: list[ImageArray], resolution: int, seed: int) -> Iterator[ImageArray]:
    """Yields batches of random images and of the given images, uint8 [N, H, W, 3], in four sizes."""
    random = random_stream(seed, Stream.EXPORT_IMAGES)
    sizes = (
        (1, STRIDE, STRIDE),
        (2, resolution + STRIDE, resolution),
        (3, resolution, 2 * resolution + STRIDE),
        (COMPARED_IMAGES, resolution, resolution),
    )
    for count, height, width in sizes:
        yield torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=random).numpy()
        chosen = [images[index % len(images)] for index in range(count)]
        yield np.stack([cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in chosen])


def _read_images(config: ExportConfig) -> list[ImageArray]:
    if config.images:
        return [read_image(path) for path in find_images(config.images)[:COMPARED_IMAGES]]
    sheet = read_image(Path(str(files("saliency_gan") / GENERATED_PICTURES)))
    side = min(sheet.shape[:2]) // 3
    return [sheet[top : top + side, left : left + side] for top in (0, side, 2 * side) for left in (0, side, 2 * side)]


def _describe(model: SaliencyModel, config: ExportConfig) -> dict[str, str]:
    """Returns the metadata of the ONNX file, as text."""
    stated = config.licence or (BUNDLED_TERMS if config.model.origin == "bundled" else "not stated")
    return {
        "format": FORMAT,
        "architecture": f"{model.architecture.architecture}, {model.architecture.encoder}",
        "resolution": str(model.architecture.resolution),
        "stride": str(STRIDE),
        "input": f"{INPUT}: uint8 [N, H, W, 3], RGB; H and W are multiples of {STRIDE}",
        "output": f"{OUTPUT}: float32 [N, H, W] in [0, 1]",
        "licence": stated,
        "source_sha256": model.sha256,
        "saliency_gan": version("saliency-gan"),
        "torch": torch.__version__,
    }


def _card(target: Path, metadata: dict[str, str], difference: float) -> str:
    template = (files("saliency_gan") / "saliency" / "export_card.md.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(template).render(file=target.name, difference=f"{difference:.1e}", **metadata)


def _import_onnx() -> ModuleType:
    import_onnxruntime()
    try:
        import onnx
    except ImportError as error:
        raise UserError(f"onnx is needed but cannot be imported ({error}): pip install onnx.") from None
    return onnx
