"""From a generator to marked photos in Python: the three stages, short, on the bundled generator.

python examples/pipeline.py FOLDER_OF_PHOTOS
"""

import sys
from pathlib import Path

from saliency_gan.config import DiscoverConfig, MasksConfig, PredictConfig, TrainSaliencyConfig
from saliency_gan.directions.discovery import discover
from saliency_gan.masks.synthesis import synthesise
from saliency_gan.prediction.predict import predict
from saliency_gan.training.train_saliency import train_saliency

GENERATOR = "biggan-caltech101-64"


def main(photos: Path, run: Path = Path("runs/example"), steps: int = 300, pairs: int = 3000) -> None:
    # From random directions, discover needs hours. Here it continues from the bundled ones.
    discover(DiscoverConfig(run=run, generator=GENERATOR, start=Path(GENERATOR), steps=steps))
    masks = MasksConfig(run=run, generator=GENERATOR, pairs=pairs)
    synthesise(masks)
    model = train_saliency(TrainSaliencyConfig(run=run, steps=steps, validation_pairs=pairs // 10), masks)
    predict(PredictConfig(run=run, weights=model, output=run / "predictions", save=("map", "cutout")), [photos])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
