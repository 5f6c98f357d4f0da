"""`adapt`: trains a saliency model further on unlabelled photos, of the kind that it will be used on."""

from pathlib import Path
from typing import Any

from saliency_gan.compute.devices import make_fabric
from saliency_gan.compute.processes import is_main
from saliency_gan.config import AdaptConfig
from saliency_gan.config.self_training import ROUND_SETTINGS, at_round
from saliency_gan.runs.stage_folder import StageFolder
from saliency_gan.saliency.model import SaliencyModel, load_model
from saliency_gan.training.pairs import Part
from saliency_gan.training.self_training import outcome, run_rounds
from saliency_gan.training.sources import read_shards
from saliency_gan.training.train_student import resized


def adapt(config: AdaptConfig) -> Path:
    """Trains a model on its own masks of photos, and resumes where an earlier run stopped.

    A round whose agreement on held-out photos is too low is not kept, see `run_rounds`; if that is the first round, the
    unchanged model is kept.

    Returns:
        The weights file, `run/saliency-adapted/model.safetensors`. The same folder holds config.json, rounds.json,
        rounds.png and preview.png.

    Raises:
        UserError: If a setting, the photos, the model or the checkpoint cannot be used.
        StageError: If the model is confident on hardly any photo, or a file cannot be written.
    """
    config.check()
    fabric = make_fabric(config.device, config.precision)
    model = load_model(config.inputs()["model"].path)

    def new_model(number: int, before: SaliencyModel) -> SaliencyModel:
        sides = config.resolutions or (model.architecture.resolution,)
        return resized(before, at_round(sides, number))

    with StageFolder(config, "saliency-adapted", changeable=ROUND_SETTINGS) as folder:
        kept = run_rounds(config, folder, fabric, model, new_model, *_synthetic(config))
        output = folder.path / "model.safetensors"
        if is_main():
            kept.save(folder.path)
    print(outcome(kept, output))
    return output


def _synthetic(config: AdaptConfig) -> tuple[list[Part], dict[str, Any]]:
    """The generated pairs that each batch gets, and the identity of what they were drawn from."""
    if not config.synthetic_share:
        return [], {}
    found = config.inputs()["pairs"]
    pairs, identity = read_shards(found.path or found.name)
    return [Part(pairs, config.synthetic_pairs, config.backdrop)], identity
