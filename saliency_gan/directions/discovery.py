"""Stage 1, `discover`: trains A and R on a frozen generator, then measures, ranks and shows the directions."""

import shutil
import time
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from saliency_gan.compute.devices import make_fabric, peak_memory
from saliency_gan.compute.processes import is_main
from saliency_gan.config import DiscoverConfig, to_plain
from saliency_gan.directions.background import choose_background
from saliency_gan.directions.deformator import FIXED_KINDS
from saliency_gan.directions.gallery import draw_ranking, write_gallery, write_index
from saliency_gan.directions.rca import measure_rca
from saliency_gan.directions.reconstructor import Reconstructor, save_reconstructor
from saliency_gan.directions.training import DiscoveryTrainer
from saliency_gan.errors import UserError
from saliency_gan.generators.base import Generator
from saliency_gan.generators.zoo import load_chosen
from saliency_gan.images.writing import write_image
from saliency_gan.results.directions import Directions, load_directions, read_names
from saliency_gan.runs.interrupts import delaying_interrupt, saving_on_interrupt
from saliency_gan.runs.stage_folder import MEMORY_AFTER, StageFolder

if TYPE_CHECKING:
    from lightning_fabric import Fabric

CHANGEABLE = {
    "rca_samples", "rca_every", "method", "optimise_steps", "background_shifts", "background_samples", "theta",
    "direction", "sign", "shift", "gallery_samples",
}  # fmt: skip
"""Settings that only change what is measured and chosen. They may differ when a run is continued."""
RANKING_SHOWN = 12


def discover(config: DiscoverConfig) -> Path:
    """Trains A and R, and chooses the background direction h_bg. It resumes where an earlier run stopped.

    On a finished run, it only measures and chooses again, for example with another `direction`. Built-in directions of
    the generator (EigenGAN's) follow the K discovered ones as columns of A, and can also become h_bg. With K = 0, there
    are only built-in directions and nothing is trained.

    Returns:
        The stage's folder `run/discover` with directions.safetensors, directions.json, reconstructor.safetensors,
        ranking.png and gallery/.

    Raises:
        UserError: If the settings do not fit together or the checkpoint belongs to another generator.
    """
    config.check()
    config, generator = config.resolved(), load_chosen(config.choice)
    if isinstance(config.direction, str):
        config = replace(config, direction=_column(config.direction, config, generator))
    _check_directions(config, generator)
    with StageFolder(config, "discover", CHANGEABLE) as folder:
        if config.K:
            trainer = DiscoveryTrainer(config, generator)
            if not folder.resume(trainer.load_state) and config.start:
                trainer.start_from(config.inputs()["start"].folder)
            _train(trainer, folder)
            rca, fabric = _rca(trainer), trainer.fabric
            learned = trainer.deformator.eval().matrix.detach().cpu()
            reconstructor = trainer.reconstructor.module
        else:
            rca, fabric, reconstructor = {}, make_fabric(config.device, config.precision), None
            learned = torch.zeros(generator.latent_dim, 0)
            generator.to(fabric.device)
        found = _choose(config, generator, fabric, learned, reconstructor, rca, folder) if is_main() else None
    if found is None:  # the main process did it
        return folder.path
    background = found.background
    if config.K and generator.own_directions:
        print(_best_of_each_source(found, config.K))
    print(
        f"h_bg is {_called(background.index, found.names)}, sign {background.sign:+d}, shift {background.shift:g},"
        f" {background.polarity} background, score {background.score:.3f}; see {folder.path / 'ranking.png'}"
    )
    return folder.path


def _column(name: str, config: DiscoverConfig, generator: Generator) -> int:
    """Column of A with this name. In a new run, only the generator's built-in directions have names."""
    own, folder = list(generator.own_directions), config.run / "discover"
    if (before := _before(folder)) is not None:
        return before.index_of(name)
    if name in own:
        return config.K + own.index(name)
    if (folder / "directions.json").exists():
        load_directions(folder)  # says what is wrong with them
    raise _not_trained(name, config)


def _check_directions(config: DiscoverConfig, generator: Generator) -> None:
    count = config.K + len(generator.own_directions)
    if not count:
        raise UserError(
            f"--K 0 leaves only the directions that a generator itself names, and {generator.name} has none: raise --K."
        )
    if isinstance(config.direction, int) and not 0 <= config.direction < count:
        raise UserError(f"--direction {config.direction} does not exist among K = {count}: give 0 to {count - 1}.")
    untrained = config.steps == 0 or config.deformator in FIXED_KINDS
    if untrained or (config.run / "discover" / "directions.json").exists():
        return
    if isinstance(config.direction, int) and config.direction < config.K:
        raise _not_trained(config.direction, config)


def _not_trained(direction: int | str, config: DiscoverConfig) -> UserError:
    return UserError(
        f"--direction {direction} names a direction that is not trained yet: {config.run} has no directions of its own."
        " Run discover without --direction first, and look at its gallery."
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


def _choose(
    config: DiscoverConfig,
    generator: Generator,
    fabric: "Fabric",
    learned: Tensor,
    reconstructor: Reconstructor | None,
    rca: dict[str, float],
    folder: StageFolder,
) -> Directions:
    """Chooses h_bg after RCA was measured, and writes the files and the pictures."""
    if rca:
        print(
            f"RCA {rca['accuracy']:.3f} (95 % interval {rca['low']:.3f} to {rca['high']:.3f}, {rca['samples']} pairs)"
        )
    own, before = generator.own_directions, _before(folder.path)
    matrix = torch.cat([learned, *(vector.detach().float().cpu()[:, None] for vector in own.values())], dim=1)
    same = before is not None and _is_of(before, generator) and _are_alike(before.matrix, matrix)
    if before is not None and same:
        matrix = before.matrix  # with the bits by which ratings and pairs know it; another machine rounds differently
    among = generator.class_indices(config.classes)
    choice = choose_background(config, generator, matrix, among, fabric)
    identity = {"name": generator.name, "sha256": generator.sha256}
    names = _names_given(folder.path, matrix, before, generator, config.K)
    taken = set(names.values())
    names = {index: name for index, name in enumerate(own, start=config.K) if name not in taken} | names
    found = Directions(matrix, choice.vector, choice.background, identity, choice.scores, rca, to_plain(config), names)
    found.save(folder.path)
    if reconstructor is not None:
        save_reconstructor(reconstructor, folder.path / "reconstructor.safetensors")
    units = F.normalize(matrix, dim=0).T
    shown = [(entry, entry["sign"] * units[entry["index"]]) for entry in choice.scores[:RANKING_SHOWN]]
    if (choice.background.method, choice.background.chosen_by) != ("rank", "auto"):
        shown.insert(0, (asdict(choice.background), choice.vector))
    write_image(
        folder.path / "ranking.png",
        draw_ranking(config, generator, shown, choice.background, among, fabric),
    )
    if config.gallery_samples:
        write_gallery(folder.path / "gallery", config, generator, matrix, choice.scores, names, among, fabric)
    elif same and (folder.path / "gallery").is_dir():
        write_index(folder.path / "gallery", choice.scores, names)  # its pictures stay the same
    elif not same:
        shutil.rmtree(folder.path / "gallery", ignore_errors=True)  # it would show other directions
    return found


def _best_of_each_source(found: Directions, learned: int) -> str:
    """One sentence with the best discovered direction and the best built-in direction of the generator."""
    discovered = next(entry for entry in found.scores if entry["index"] < learned)
    own = next(entry for entry in found.scores if entry["index"] >= learned)
    return (
        f"best discovered: {_called(discovered['index'], found.names)}, score {discovered['score']:.3f};"
        f" best of the generator's own: {_called(own['index'], found.names)}, score {own['score']:.3f}"
    )


def _called(index: int | None, names: dict[int, str]) -> str:
    if index is None:
        return "an optimised direction"
    return f"direction {index} ({names[index]})" if index in names else f"direction {index}"


def _rca(trainer: DiscoveryTrainer, step: int | None = None) -> dict[str, float]:
    config, networks = trainer.config, (trainer.deformator, trainer.reconstructor)
    return measure_rca(trainer.sampler, *networks, trainer.fabric, config.rca_samples, config.batch, config.seed, step)


def _before(folder: Path) -> Directions | None:
    """The directions that the folder holds already, if they can be read."""
    with suppress(UserError):
        return load_directions(folder)
    return None


def _is_of(before: Directions, generator: Generator) -> bool:
    return before.generator["sha256"] == generator.sha256


def _are_alike(before: Tensor, now: Tensor) -> bool:
    """Whether directions are the same, but for rounding."""
    return before.shape == now.shape and torch.allclose(before, now, rtol=0, atol=1e-5)


def _names_given(
    folder: Path, matrix: Tensor, before: Directions | None, generator: Generator, learned: int
) -> dict[int, str]:
    """Names that directions had before.

    Prints a warning if a direction that a person named has changed since then. Also prints one if the names cannot be
    read, and renames their file.
    """
    file = folder / "directions.json"
    if not file.exists():
        return {}
    try:
        names = read_names(folder, matrix.shape[1])
    except UserError as error:
        print(f"{error} Its names are not taken over; the file is {file.replace(_unused(folder))} now.")
        return {}
    by_people = [index for index, name in names.items() if index < learned or ": " in name]
    if before is None or not _is_of(before, generator) or before.matrix.shape != matrix.shape:
        changed = bool(by_people)
    else:
        changed = any(not _are_alike(before.matrix[:, index], matrix[:, index]) for index in by_people)
    if changed:
        print("The directions are not those that were named: look at the gallery again and check the names.")
    return names


def _unused(folder: Path) -> Path:
    paths = (folder / f"directions.damaged-{number}.json" for number in count(1))
    return next(path for path in paths if not path.exists())
