"""The bundled model in torch, onnxruntime and, if it is installed, OpenVINO: `python benchmarks/runtimes.py`.

As in `predict`, every core computes its own batches of eight photos and their mirror images. Reading and writing files
is left out. OpenVINO is no part of the package: `pip install openvino`.
"""

import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import print_row, quiet, take_turns

from saliency_gan.compute.devices import pick_precision
from saliency_gan.compute.processes import cores
from saliency_gan.config import ExportConfig
from saliency_gan.saliency.export import export
from saliency_gan.saliency.model import load_model
from saliency_gan.saliency.onnx_model import load_onnx_model
from saliency_gan.saliency.predictor import TorchNetwork

PHOTOS, BATCHES = 8, 6
Maps = Callable[[Any], Any]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundled.onnx"
        with quiet():
            export(ExportConfig(output=path))
        runtimes: dict[str, Maps] = {
            "torch, fp32": TorchNetwork(load_model(), torch.device("cpu"), "fp32").maps,
            "onnxruntime, fp32": load_onnx_model(path, "cpu").maps,
        }
        mixed = pick_precision("auto", torch.device("cpu")) == "bf16"
        if mixed:
            runtimes["torch, bf16"] = TorchNetwork(load_model(), torch.device("cpu"), "bf16").maps
        for name, hint in [("OpenVINO, fp32", "f32")] + [("OpenVINO, bf16", "bf16")] * mixed:
            if maps := openvino_maps(path, hint):
                runtimes[name] = maps
    squares = np.random.default_rng(0).integers(0, 255, (2 * PHOTOS, 256, 256, 3), dtype=np.uint8)
    threads = cores() + 1
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        tasks = {name: lambda maps=maps: list(pool.map(maps, [squares] * BATCHES)) for name, maps in runtimes.items()}
        seconds = take_turns(tasks)
    for name, took in seconds.items():
        ratio = seconds["torch, fp32"] / took
        print_row(
            f"network alone: {name}", "torch, fp32", "", f"{ratio:.1f} x ({PHOTOS * BATCHES / took:.0f} photos/s)"
        )


def openvino_maps(path: Path, precision: str) -> Maps | None:
    try:
        import openvino
    except ImportError:
        return None
    settings = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": precision}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    own = threading.local()

    def maps(squares: Any) -> Any:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        return own.request.infer({0: squares})[0]

    return maps


if __name__ == "__main__":
    main()
