import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from saliency_gan.cli.main import main

SIDE = 32
SHARED_VERBS = ("discover", "masks", "train-saliency", "train-student", "adapt", "evaluate", "predict")
"""What several processes do together, after the first stage."""


def _disc_photo(random: np.random.Generator, dark: bool) -> tuple[np.ndarray, np.ndarray]:
    """A coloured disc on a plain ground, and its mask."""
    ground, disc = (60, 200) if dark else (220, 70)
    image = np.full((SIDE, SIDE, 3), ground, np.uint8) + random.integers(0, 20, 3).astype(np.uint8)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    centre = tuple(int(value) for value in random.integers(12, 20, 2))
    cv2.circle(mask, centre, int(random.integers(6, 10)), 255, -1)
    image[mask > 0] = disc + random.integers(-30, 30, 3)
    return image, mask


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two classes of photos, photos with masks, and a pipeline that runs in seconds on a CPU."""
    root = tmp_path_factory.mktemp("world")
    random = np.random.default_rng(0)
    for name, dark in (("moons", True), ("stones", False)):
        for index in range(24):
            path = root / "classes" / name / f"{index:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), _disc_photo(random, dark)[0])
    for folder in ("images", "masks"):
        (root / "photos" / folder).mkdir(parents=True)
    for index in range(6):
        image, mask = _disc_photo(random, dark=index % 2 == 0)
        cv2.imwrite(str(root / "photos" / "images" / f"{index}.png"), image)
        cv2.imwrite(str(root / "photos" / "masks" / f"{index}.png"), mask)
    run = root / "run"
    pipeline = {
        "run": str(run),
        "seed": 3,
        "device": "cpu",
        "generator": str(run / "generator" / "generator.safetensors"),
        "train-gan": {
            "images": str(root / "classes"), "resolution": SIDE, "latent_dim": 12, "embedding_dim": 4,
            "channels": [24, 16, 12, 8], "discriminator_channels": [12, 16], "batch": 8, "steps": 12,
            "checkpoint_every": 3, "sample_every": 6, "log_every": 2, "distance_images": 0,
        },
        "discover": {
            "K": 6, "steps": 12, "batch": 4, "reconstructor": "lenet", "checkpoint_every": 3, "log_every": 2,
            "rca_samples": 32, "background_shifts": [2.0, 4.0], "background_samples": 8, "gallery_samples": 1,
        },
        "masks": {
            "pairs": 48, "batch": 8, "shard_size": 8, "theta": "otsu", "opening": 0, "min_area": 0.01, "max_area": 0.99,
            "max_border": 1.0,
        },
        "train-saliency": {
            "encoder": "resnet18", "resolution": SIDE, "decoder_channels": [16, 12, 8, 8], "steps": 8, "batch": 4,
            "validation_pairs": 8, "checkpoint_every": 2, "log_every": 2, "workers": 0,
        },
        "train-student": {
            "images": [str(root / "classes")], "steps": [2, 2], "resolutions": [SIDE], "thresholds": [0.4],
            "restart": [True], "encoder": "resnet18", "encoder_weights": "none", "decoder_channels": [12, 8],
            "batch": 4, "held_out": 4, "max_fall": 1.0, "min_confidence": 0.0, "min_agreement": 0.0, "min_area": 0.0,
            "max_area": 1.0, "mark_side": SIDE, "workers": 0,
        },
        "adapt": {
            "images": [str(root / "classes")], "steps": [2], "resolutions": [SIDE], "batch": 4, "held_out": 4,
            "synthetic_share": 0.25, "min_confidence": 0.0, "min_agreement": 0.0, "min_area": 0.0, "max_area": 1.0,
            "mark_side": SIDE, "workers": 0,
        },
        "evaluate": {"images": str(root / "photos" / "images"), "masks": str(root / "photos" / "masks"), "workers": 1},
        "predict": {"output": str(run / "predictions"), "weights": str(run / "saliency" / "model.safetensors")},
    }  # fmt: skip
    (root / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))
    return root


@pytest.fixture(scope="session")
def finished(world: Path) -> Path:
    """The run folder after every stage was run once through the command line."""
    config = ["--config", str(world / "pipeline.yaml")]
    for verb in ("train-gan", "discover", "masks", "train-saliency"):
        assert main([verb, *config]) == 0
    assert main(["predict", str(world / "photos" / "images"), *config]) == 0
    assert main(["evaluate", *config]) == 0
    assert main(["report", *config]) == 0
    return world / "run"


def torchrun(world: Path, verb: str, run: Path, *settings: str, restarts: int = 0) -> subprocess.Popen[str]:
    """Starts a verb in two processes, as docs/scale.md does."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", str(restarts)]
    command += ["--monitor-interval", "0.1", "-m", "--", "saliency_gan", verb]
    if verb == "predict":
        command += [str(world / "photos" / "images"), "--output", str(run / "predictions")]
    config = ["--config", str(world / "pipeline.yaml"), "--run", str(run), *settings]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LOGLEVEL": "INFO" if restarts else "WARNING"}
    return subprocess.Popen(
        [*command, *config],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True,
    )  # fmt: skip


def errors_of(job: subprocess.Popen[str]) -> str:
    """Waits until a job has ended, and returns what it wrote to stderr. A job that hangs is killed."""
    try:
        return job.communicate(timeout=600)[1]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def run(finished: Path, world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which two processes did every stage but the first one, on the generator of the one that `finished`."""
    run = tmp_path_factory.mktemp("torchrun") / "run"
    shutil.copytree(finished / "generator", run / "generator")
    for verb in SHARED_VERBS:
        job = torchrun(world, verb, run)
        errors = errors_of(job)
        assert job.returncode == 0, errors
        assert "Traceback" not in errors
    return run
