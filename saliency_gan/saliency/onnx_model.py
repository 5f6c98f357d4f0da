"""Runs a saliency model that `export` wrote with onnxruntime; does not import torch."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from saliency_gan.compute.processes import cores
from saliency_gan.config import Device
from saliency_gan.errors import StageError, UserError, reason_of
from saliency_gan.images import ImageArray
from saliency_gan.saliency.photo_predictor import STRIDE, SaliencyMap
from saliency_gan.storage.exported import exported_file

FORMAT = "saliency-gan-onnx/1"
INPUT, OUTPUT = "images", "saliency"
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def load_onnx_model(path: Path | str | None = None, device: Device = "auto") -> "OnnxNetwork":
    """Reads an ONNX file that `export` wrote.

    Args:
        path: The file; None takes the export of the bundled model from the cache folder.
        device: auto takes CUDA if onnxruntime supports it, else the CPU.

    Raises:
        UserError: If onnxruntime is not installed, or the file is missing, damaged or of another model.
    """
    if path is None:
        path = exported_file()
        if not path.exists():
            raise UserError(
                f"The bundled model is not exported yet ({path} is missing): run `saliency-gan export` once, which"
                " takes seconds, or give a file with --weights FILE.onnx."
            )
    path = Path(path)
    if path.suffix.lower() != ".onnx":
        raise UserError(
            f"{path} is no .onnx file, which --runtime onnx needs: write one with saliency-gan export --weights {path}"
            " --output saliency.onnx."
        )
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(
            f"There is no file {path}: write it with saliency-gan export --run RUN, or with --weights MODEL --output"
            f" {path}."
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): give a file of saliency-gan export.") from None
    return OnnxNetwork(data, str(path), device)


class OnnxNetwork:
    """A `photo_predictor.Network` that uses onnxruntime, by default with one thread per core of the process.

    Args:
        data: Content of the ONNX file.
        name: Name of the file for error messages.
        device: auto takes CUDA if onnxruntime supports it, else the CPU.

    Attributes:
        metadata: Metadata that `export` wrote: format, resolution, licence, source_sha256 and more, as text.

    Raises:
        UserError: If onnxruntime is not installed or lacks the device, or the file is damaged or of another model.
    """

    def __init__(self, data: bytes, name: str, device: Device = "auto") -> None:
        runtime = import_onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = _threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # its threads sleep while they wait
        options.log_severity_level = 4  # the exception already reports an error
        providers = _providers(device, runtime.get_available_providers())
        try:
            self._session = runtime.InferenceSession(data, options, providers)
        except Exception as error:  # onnxruntime's errors share no base class
            raise UserError(f"{name} is no ONNX model that onnxruntime can read ({reason_of(error)}).") from None
        if providers[0] not in self._session.get_providers():  # onnxruntime falls back to the CPU without a word
            if device != "auto":
                raise UserError(
                    f"--device {device} was asked for, but onnxruntime cannot use it here: install the CUDA and cuDNN"
                    " that it needs, use --device cpu, or --runtime torch."
                )
            print("onnxruntime cannot use the GPU here, so it computes on the CPU.", file=sys.stderr)
        self.name = name
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        names = [[part.name for part in parts()] for parts in (self._session.get_inputs, self._session.get_outputs)]
        resolution = self.metadata.get("resolution", "")
        if self.metadata.get("format") != FORMAT or names != [[INPUT], [OUTPUT]] or not resolution.isdecimal():
            raise UserError(f"{name} is an ONNX model, but none that saliency-gan export wrote: export it again.")
        self.resolution = int(resolution)

    def maps(self, squares: ImageArray) -> SaliencyMap:
        """Computes saliency in [0, 1], float32 [N, H, W], of uint8 [N, H, W, 3]; H and W are multiples of 32.

        Raises:
            UserError: If `squares` or the result of the network has another type or shape.
            StageError: If onnxruntime fails, for example because of too little memory.
        """
        shape = squares.shape
        if squares.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or shape[1] % STRIDE or shape[2] % STRIDE:
            raise UserError(
                f"Images have to be uint8 [N, H, W, 3] with H and W multiples of {STRIDE}, but are {squares.dtype}"
                f" {list(shape)}: resize them first."
            )
        try:
            maps = self._session.run([OUTPUT], {INPUT: squares})[0]
        except Exception as error:  # as above
            raise StageError(
                f"onnxruntime could not compute maps of {list(shape)} with {self.name} ({reason_of(error)}): lower"
                " --batch or --resolution, or export the model again."
            ) from None
        if maps.dtype != np.float32 or maps.shape != shape[:3]:
            raise UserError(
                f"{self.name} gave {maps.dtype} {list(maps.shape)} for images of {list(shape)}, not a map an image:"
                " export the model again."
            )
        return maps


def import_onnxruntime() -> Any:
    """Returns the module onnxruntime, with its telemetry off: it would write a device id and look for a server.

    Raises:
        UserError: If it is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime reads it at its first import
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"onnxruntime is needed but cannot be imported ({error}): pip install onnxruntime.") from None
    return onnxruntime


def _providers(device: Device, available: list[str]) -> list[str]:
    if device == "auto":
        return [provider for provider in reversed(PROVIDERS.values()) if provider in available]
    if PROVIDERS.get(device) not in available:
        raise UserError(
            f"--device {device} was asked for, but onnxruntime has {', '.join(available)} here: use --device cpu, or"
            " --runtime torch."
        )
    return [PROVIDERS[device]]


def _threads() -> int:
    """Number of threads: OMP_NUM_THREADS, like torch, else the cores that this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() and int(wanted) > 0 else cores()
