"""Stage 1, `discover`: trains A and R on a frozen generator, then measures, ranks and shows the directions."""

import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from saliency_gan.artifacts import Background, Directions, load_directions
from saliency_gan.config import DiscoverConfig, to_plain
from saliency_gan.devices import own_parts, peak_memory
from saliency_gan.directions.background import choose_background
from saliency_gan.directions.gallery import draw_ranking, write_gallery
from saliency_gan.directions.rca import measure_rca
from saliency_gan.directions.training import DiscoveryTrainer
from saliency_gan.errors import UserError
from saliency_gan.generators.zoo import load_generator
from saliency_gan.images import write_image
from saliency_gan.processes import is_main
from saliency_gan.runs import MEMORY_AFTER, StageFolder, delaying_interrupt, saving_on_interrupt, write_bytes

CHANGEABLE = {
    "rca_samples", "rca_every", "method", "background_shifts", "background_samples", "theta", "direction", "sign",
    "shift", "gallery_samples",
}  # fmt: skip
"""Settings of what is measured and chosen; they may differ when a run is continued."""
RANKING_SHOWN = 12


def discover(config: DiscoverConfig) -> Path:
    """Trains A and R, resuming where an earlier run stopped, and chooses the background direction h_bg.

    Called again on a finished run it only measures and chooses anew, for example with another `direction`.

    Returns:
        The stage's folder `run/discover` with directions.safetensors, directions.json, reconstructor.safetensors,
        ranking.png and gallery/.

    Raises:
        UserError: If the settings do not fit together or the checkpoint belongs to another generator.
    """
    if isinstance(config.direction, str):
        config = replace(config, direction=load_directions(config.run / "discover").index_of(config.direction))
    _check(config)
    generator = load_generator(config.generator, config.weights, config.truncation)
    with StageFolder(config, "discover", CHANGEABLE) as folder:
        trainer = DiscoveryTrainer(config, generator)
        if state := folder.load_checkpoint():
            trainer.load_state(state)
        _train(trainer, folder)
        rca = _rca(trainer)
        background = _choose(trainer, folder, rca) if is_main() else None
    if background is None:  # the main process did it
        return folder.path
    name = "an optimised direction" if background.index is None else f"direction {background.index}"
    print(
        f"h_bg is {name}, sign {background.sign:+d}, shift {background.shift:g}, {background.polarity} background,"
        f" score {background.score:.3f}; see {folder.path / 'ranking.png'}"
    )
    return folder.path


def _check(config: DiscoverConfig) -> None:
    """Refuses settings that could only fail after training."""
    if not 0 <= config.min_shift <= config.max_shift or config.max_shift == 0:
        raise UserError(
            f"--min_shift {config.min_shift:g} and --max_shift {config.max_shift:g}: give 0 <= min <= max, max > 0."
        )
    if config.rca_every < 0 or (config.rca_every and config.rca_samples < 1):
        raise UserError(
            f"--rca_every {config.rca_every} with --rca_samples {config.rca_samples}: give 0 for no RCA during"
            " training, or a number of steps and at least one sample."
        )
    own_parts(config.batch, config.accumulate)
    if config.batch < 2 * config.accumulate:
        raise UserError(
            f"--batch {config.batch} is too small for batch normalisation in R: give {2 * config.accumulate} or more."
        )
    if isinstance(config.direction, int) and not 0 <= config.direction < config.K:
        raise UserError(
            f"--direction {config.direction} does not exist among K = {config.K}: give 0 to {config.K - 1}."
        )
    if not config.background_shifts or min(config.background_shifts) <= 0 or config.shift <= 0:
        raise UserError(
            "Shift magnitudes have to be positive: check --shift and --background_shifts; --sign flips them."
        )
    if not 0 < config.theta < 1 or config.background_samples < 1:
        raise UserError(
            f"--theta {config.theta:g} has to lie between 0 and 1 and --background_samples {config.background_samples}"
            " has to be at least 1."
        )


def _train(trainer: DiscoveryTrainer, folder: StageFolder) -> None:
    config = trainer.config
    if trainer.step >= config.steps:
        return
    progress = tqdm(range(trainer.step, config.steps), "discover", config.steps, initial=trainer.step, unit="step")
    began, step_before, first = time.perf_counter(), trainer.step, trainer.step
    with saving_on_interrupt(lambda: folder.save_checkpoint(trainer.state())):
        for _ in progress:
            with delaying_interrupt():
                trainer.train_step()
                if trainer.step == first + MEMORY_AFTER:
                    tqdm.write(peak_memory(trainer.fabric.device))
                if trainer.step % config.log_every == 0:
                    means = trainer.mean_metrics()
                    rate = (trainer.step - step_before) / (time.perf_counter() - began)
                    began, step_before = time.perf_counter(), trainer.step
                    folder.log(trainer.step, **means, steps_per_second=rate)
                    progress.set_postfix({name: f"{means[name]:.3f}" for name in ("loss", "accuracy", "mae")})
                if config.rca_every and trainer.step % config.rca_every == 0:
                    folder.log(trainer.step, rca=_rca(trainer, trainer.step)["accuracy"])
                if trainer.step % config.checkpoint_every == 0:
                    folder.save_checkpoint(trainer.state())
    folder.save_checkpoint(trainer.state())


def _choose(trainer: DiscoveryTrainer, folder: StageFolder, rca: dict[str, float]) -> Background:
    """What follows the measured RCA: the choice of h_bg, the files and the pictures."""
    config, generator, fabric = trainer.config, trainer.generator, trainer.fabric
    if rca:
        print(
            f"RCA {rca['accuracy']:.3f} (95 % interval {rca['low']:.3f} to {rca['high']:.3f}, {rca['samples']} pairs)"
        )
    matrix = trainer.deformator.matrix.detach().cpu()
    choice = choose_background(config, generator, matrix, trainer.among, fabric)
    identity = {"name": generator.name, "sha256": generator.sha256}
    names = _names_given(folder.path, matrix)
    Directions(matrix, choice.vector, choice.background, identity, choice.scores, rca, to_plain(config), names).save(
        folder.path
    )
    _save_reconstructor(trainer, folder.path / "reconstructor.safetensors")
    units = F.normalize(matrix, dim=0).T
    shown = [(entry, entry["sign"] * units[entry["index"]]) for entry in choice.scores[:RANKING_SHOWN]]
    if (choice.background.method, choice.background.chosen_by) != ("rank", "auto"):
        shown.insert(0, (asdict(choice.background), choice.vector))
    write_image(
        folder.path / "ranking.png",
        draw_ranking(config, generator, shown, choice.background, trainer.among, fabric),
    )
    if config.gallery_samples:
        write_gallery(folder.path / "gallery", config, generator, matrix, choice.scores, names, trainer.among, fabric)
    return choice.background


def _rca(trainer: DiscoveryTrainer, step: int | None = None) -> dict[str, float]:
    config, networks = trainer.config, (trainer.deformator, trainer.reconstructor)
    return measure_rca(trainer.sampler, *networks, trainer.fabric, config.rca_samples, config.batch, config.seed, step)


def _names_given(folder: Path, matrix: Tensor) -> dict[int, str]:
    """What a person called the directions before; says so where A was trained on since then."""
    try:
        before = load_directions(folder)
    except UserError:  # there is nothing to keep
        return {}
    if before.names and not torch.equal(before.matrix, matrix):
        print("The directions were named before A was trained further: look at the gallery again and check the names.")
    return before.names


def _save_reconstructor(trainer: DiscoveryTrainer, path: Path) -> None:
    config = trainer.config
    tensors = {name: tensor.cpu().contiguous() for name, tensor in trainer.reconstructor.state_dict().items()}
    description = {"kind": config.reconstructor, "K": config.K, "channels": trainer.generator.channels}
    write_bytes(path, safetensors.torch.save(tensors, {"reconstructor": json.dumps(description)}))
