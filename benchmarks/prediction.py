"""`predict` against a plain loop over photos, and the latency of one 400 x 300 photo.

    python benchmarks/prediction.py

The plain loop does what most scripts do: open a photo with Pillow, resize it, run the network on it and on its mirror
image, stretch the mean map with torch and save it, one photo after the other. Both load the same network and write the
same maps of the same photos in fp32, in turns, so that whatever else the computer does meets both. If the maps
differ, it ends. Each photo is there --copies times, because loading the network is a good part of what the few bundled
photos take. Weights do not matter for speed: without --weights and without a bundled model, the default network has
random ones. The latency is absolute: it has no reference.
"""

import argparse
import contextlib
import io
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from timing import median_ratio, print_row
from torchvision.transforms.functional import normalize, resize, to_tensor

from saliency_gan.config import PredictConfig
from saliency_gan.encoders.pretrained import statistics_of
from saliency_gan.errors import UserError
from saliency_gan.images.folders import find_images
from saliency_gan.images.reading import read_image
from saliency_gan.prediction.predict import predict
from saliency_gan.saliency.model import SaliencyModel, load_model
from saliency_gan.saliency.network import SaliencyArchitecture
from saliency_gan.saliency.predictor import Predictor

ROOT = Path(__file__).parents[1]
LARGEST_DIFFERENCE = 0.01
"""Two maps of one photo may differ by this on average: the plain loop resizes with torch and cuts off fractions."""
LATENCY_SIZE = (300, 400)
LATENCY_REPEATS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=ROOT / "data/samples/images", help="folder of photos")
    parser.add_argument("--weights", type=Path, help="model.safetensors; the bundled one where it is left out")
    parser.add_argument("--copies", type=int, default=5, help="how often every photo is there")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; their median ratio counts")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        photos = copies_of(find_images(options.photos), options.copies, Path(folder) / "photos")
        weights = find_weights(options.weights, Path(folder))
        plain, whole, difference = [], [], 0.0
        for number in range(options.rounds):
            outputs = Path(folder) / f"plain-{number}", Path(folder) / f"predict-{number}"
            plain.append(len(photos) / time_plain_loop(weights, photos, outputs[0]))
            whole.append(len(photos) / time_predict(weights, photos, outputs[1]))
            difference = mean_difference(outputs[0], outputs[1] / "map")
            if not difference <= LARGEST_DIFFERENCE:
                raise SystemExit(f"The maps differ by {difference:.3f} of 1 on average: both have to make the same.")
            print(f"round {number + 1}: plain loop {plain[-1]:.1f} photos/s, predict {whole[-1]:.1f} photos/s")
        latency = measure_latency(load_model(weights), photos[0])
    ratio = median_ratio(whole, plain)
    print(f"maps differ by {difference:.3f} of 1 on average")
    measured = f"{ratio:.1f} x ({statistics.median(whole):.1f} photos/s)"
    print_row("`predict`, files to files", "a plain loop, one photo at a time", "3 x", measured)
    print_row("a 400 x 300 photo in memory, model loaded", "", "stated", f"{1000 * latency:.0f} ms")


def copies_of(photos: list[Path], count: int, folder: Path) -> list[Path]:
    folder.mkdir()
    return [
        Path(shutil.copy(photo, folder / f"{photo.stem}-{number}{photo.suffix}"))
        for number in range(count)
        for photo in photos
    ]


def find_weights(given: Path | None, folder: Path) -> Path | None:
    with contextlib.suppress(UserError):
        load_model(given)
        return given
    if given:
        raise SystemExit(f"{given} is not a saliency model")
    return SaliencyModel(SaliencyArchitecture()).save(folder)


@torch.inference_mode()
def time_plain_loop(weights: Path | None, photos: list[Path], output: Path) -> float:
    output.mkdir()
    began = time.perf_counter()
    model = load_model(weights)
    side = model.architecture.resolution
    for path in photos:
        photo = Image.open(path).convert("RGB")
        small = resize(to_tensor(photo), [side, side], antialias=True)
        seen = normalize(small, *statistics_of(model.architecture.encoder))[None]
        maps = [logit_map(model, seen).sigmoid(), logit_map(model, seen.flip(3)).sigmoid().flip(3)]
        full = torch.nn.functional.interpolate((maps[0] + maps[1]) / 2, size=photo.size[::-1], mode="bilinear")
        Image.fromarray((full[0, 0] * 255).byte().numpy()).save(output / f"{path.stem}.png")
    return time.perf_counter() - began


def logit_map(model: SaliencyModel, seen: torch.Tensor) -> torch.Tensor:
    return model(seen * model.std + model.mean)


def time_predict(weights: Path | None, photos: list[Path], output: Path) -> float:
    config = PredictConfig(output=output, weights=weights, save=("map",), device="cpu", precision="fp32")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        began = time.perf_counter()
        predict(config, photos)
        return time.perf_counter() - began


def mean_difference(first: Path, second: Path) -> float:
    pairs = [(np.array(Image.open(path)), np.array(Image.open(second / path.name))) for path in find_images(first)]
    return float(np.mean([np.abs(one.astype(float) - other).mean() / 255 for one, other in pairs]))


def measure_latency(model: SaliencyModel, path: Path) -> float:
    photo = cv2.resize(read_image(path), LATENCY_SIZE[::-1])
    predictor = Predictor(model, torch.device("cpu"))
    times = []
    for _ in range(LATENCY_REPEATS):
        began = time.perf_counter()
        predictor.predict(photo)  # type: ignore[arg-type]
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    main()
