"""`adapt`: a saliency model goes on with unlabelled photos of the kind that it will see."""

from pathlib import Path

from saliency_gan.compute.devices import make_fabric
from saliency_gan.compute.processes import is_main
from saliency_gan.config import AdaptConfig
from saliency_gan.errors import UserError
from saliency_gan.runs.stage_folder import StageFolder
from saliency_gan.saliency.model import SaliencyModel, load_model
from saliency_gan.saliency.pairs import Part
from saliency_gan.saliency.schedule import ROUND_SETTINGS, at_round, check_settings
from saliency_gan.saliency.self_training import run_rounds
from saliency_gan.saliency.sources import read_shards
from saliency_gan.saliency.student import resized


def adapt(config: AdaptConfig) -> Path:
    """Trains a model on its own masks of photos, resuming where an earlier run stopped.

    It is kept as it was where training did not raise its agreement on held-out photos.

    Returns:
        The weights file, `run/saliency-adapted/model.safetensors`; config.json, rounds.json, rounds.png and preview.png
        lie beside it.

    Raises:
        UserError: If a setting, the photos, the model or the checkpoint cannot be used.
        StageError: If the model is sure of hardly any photo, or a file cannot be written.
    """
    check_settings(config)
    _check_settings(config)
    fabric = make_fabric(config.device, config.precision)
    model = load_model(config.weights or _own_model(config.run))

    def new_model(number: int, before: SaliencyModel) -> SaliencyModel:
        sides = config.resolutions or (model.architecture.resolution,)
        return resized(before, at_round(sides, number))

    with StageFolder(config, "saliency-adapted", changeable=ROUND_SETTINGS) as folder:
        kept = run_rounds(config, folder, fabric, model, new_model, _synthetic(config))
        output = folder.path / "model.safetensors"
        if is_main():
            kept.save(folder.path)
    if kept.about["round"]:
        print(f"agreement rose to {kept.about['agreement']:.3f}: the model of round {kept.about['round']} is {output}")
    else:
        print(f"training did not raise the agreement of {kept.about['agreement']:.3f}: {output} is the model as it was")
    return output


def _own_model(run: Path) -> Path | None:
    """Folder of the run's best model before adaptation; None, which is the bundled one, where there is none."""
    folders = (run / "student", run / "saliency")
    return next((folder for folder in folders if (folder / "model.safetensors").exists()), None)


def _synthetic(config: AdaptConfig) -> list[Part]:
    own = config.run / "masks"
    shards = config.shards or (own if own.is_dir() else None)
    count = round(config.batch * config.synthetic_share)
    return [Part(read_shards(shards)[0], count, config.backdrop)] if count and shards else []


def _check_settings(config: AdaptConfig) -> None:
    for name in ("synthetic_share", "backdrop"):
        if not 0 <= getattr(config, name) <= 1:
            raise UserError(f"{name} is {getattr(config, name)}, but has to be from 0 to 1.")
    if config.synthetic_share == 1:
        raise UserError("synthetic_share is 1, which leaves no photo in a batch: choose less, for example 0.25.")
