"""Stage 0, `train-gan`: adversarial training of a BigGAN, an SN-GAN or an EigenGAN on your own images."""

import time
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from saliency_gan.compute.devices import make_fabric, peak_memory
from saliency_gan.compute.processes import is_main
from saliency_gan.config import TrainGanConfig
from saliency_gan.errors import UserError
from saliency_gan.generators.class_folders import load_class_folders
from saliency_gan.generators.discriminators import check_residual_sizes, save_discriminator
from saliency_gan.generators.distance import measure_generator
from saliency_gan.generators.families import new_generator
from saliency_gan.generators.health import health_warnings
from saliency_gan.generators.training import GanTrainer
from saliency_gan.generators.training_images import TrainingImages
from saliency_gan.generators.unlabelled_images import load_unlabelled_images
from saliency_gan.generators.zoo import save_generator
from saliency_gan.images.writing import write_image
from saliency_gan.runs.interrupts import delaying_interrupt, saving_on_interrupt
from saliency_gan.runs.stage_folder import MEMORY_AFTER, StageFolder
from saliency_gan.storage.files import write_json

CHANGEABLE = {"distance_images"}
"""Settings that only change what is measured. They may differ when a run is continued."""


def train_gan(config: TrainGanConfig) -> Path:
    """Trains a generator, and resumes where an earlier run stopped.

    The discriminator and the generator are updated in turn with the hinge loss. Both losses use differentiably
    augmented images. The saved generator is an exponential moving average (EMA) of the weights. Its batch statistics
    are measured at the end.

    Returns:
        The generator file, `run/generator/generator.safetensors`. The same folder holds the discriminator,
        distance.json with the distance from its images to the photos, see `distance.Distance`, and nearest.png, which
        shows copies.

    Raises:
        UserError: If the images, the sizes of the networks or the checkpoint cannot be used.
        StageError: If a file cannot be written.
    """
    config.check()
    _check_sizes(config)
    fabric = make_fabric(config.device, config.precision)
    with StageFolder(config, "generator", CHANGEABLE) as folder:
        data = _read_images(config)
        print(data.describe())
        trainer = GanTrainer(config, data, fabric)
        if not folder.resume(trainer.load_state):
            trainer.start_from(config.start, config.start_discriminator)
        output = folder.path / "generator.safetensors"
        progress = tqdm(range(trainer.step, config.steps), "train-gan", config.steps, initial=trainer.step, unit="step")
        with saving_on_interrupt(lambda: folder.save_checkpoint(trainer.state())):
            began, steps_before, first = time.perf_counter(), trainer.step, trainer.step
            for _ in progress:
                with delaying_interrupt():
                    losses = trainer.train_step()
                    if trainer.step == first + MEMORY_AFTER:
                        tqdm.write(peak_memory(fabric.device))
                    if trainer.step % config.log_every == 0:
                        values = {name: float(value) for name, value in losses.items()}
                        rate = (trainer.step - steps_before) * config.batch / (time.perf_counter() - began)
                        began, steps_before = time.perf_counter(), trainer.step
                        folder.log(trainer.step, **values, images_per_second=rate)
                        shown = {name: f"{value:.3f}" for name, value in values.items()}
                        progress.set_postfix(shown | {"images/s": f"{rate:.0f}"})
                    if trainer.step % config.sample_every == 0 and is_main():
                        write_image(folder.path / "samples" / f"step-{trainer.step:06d}.png", trainer.sample_grid())
                        if health := trainer.health():
                            folder.log(trainer.step, **health)
                        for warning in health_warnings(health):
                            tqdm.write(warning)
                    if trainer.step % config.checkpoint_every == 0:
                        folder.save_checkpoint(trainer.state())
        folder.save_checkpoint(trainer.state())
        if is_main():
            generator = trainer.finished_generator()
            save_generator(generator, output)
            save_discriminator(trainer.discriminator.module, folder.path / "discriminator.safetensors")
            distance, copies = folder.path / "distance.json", folder.path / "nearest.png"
            for earlier in (distance, copies):  # they describe the generator before these steps
                earlier.unlink(missing_ok=True)
            if config.distance_images and len(data.labels) > 1:
                found, nearest = measure_generator(generator, data, config.distance_images, fabric.device, config.seed)
                write_json(distance, asdict(found))
                write_image(copies, nearest)
                print(found.describe())
    print(f"generator written to {output}")
    return output


def _check_sizes(config: TrainGanConfig) -> None:
    """Refuses sizes of networks that do not go together, before images are read, which may take long."""
    with torch.device("meta"):
        new_generator(config, ("class", "other class") if config.has_classes else ("all",))
    if config.discriminator == "residual":
        check_residual_sizes(config)
    for folder in filter(None, (config.start, config.start_discriminator)):
        if not folder.is_dir():
            raise UserError(f"There is no folder {folder}: name the generator folder of a finished train-gan.")


def _read_images(config: TrainGanConfig) -> TrainingImages:
    """Reads the training images: class folders for a family with classes, else any images."""
    if config.has_classes:
        return load_class_folders(config.images, config.resolution, config.exclude, config.min_images)
    return load_unlabelled_images(config.images, config.resolution, config.image_channels)
