"""Every stage on a tiny world, in processes that may be killed, stopped or told another time."""

import json
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml

from saliency_gan.storage.provenance import FILE as SOURCES_FILE
from saliency_gan.storage.torch_files import load_torch
from tests.jobs import launch

NEEDS = {
    "train-gan": (),
    "discover": ("train-gan",),
    "masks": ("train-gan", "discover"),
    "train-saliency": ("train-gan", "discover", "masks"),
    "train-student": ("train-saliency",),
    "adapt": ("masks", "train-saliency"),
    "evaluate": ("train-saliency",),
    "predict": ("train-saliency",),
}
"""Stage -> those whose results it reads."""

FOLDER = {
    "train-gan": "generator", "discover": "discover", "masks": "masks", "train-saliency": "saliency",
    "train-student": "student", "adapt": "saliency-adapted", "evaluate": "evaluation", "predict": "predictions",
}  # fmt: skip
RATES = ("images_per_second", "steps_per_second")
PATIENCE = 120
"""Seconds after which a process hangs."""


@dataclass(frozen=True)
class Meddling:
    """What is done to a process from within.

    Attributes:
        at: Number of the change to the run folder before which `signal` comes; None for no signal.
        signal: SIGKILL or SIGSTOP.
        clock: Seconds by which the process's clock is wrong.
    """

    at: int | None = None
    signal: int = signal.SIGKILL
    clock: float = 0.0


@dataclass
class World:
    """A folder with photos, a pipeline over them, and what uninterrupted runs of its stages give.

    Attributes:
        root: The folder; the stages work in its subfolder `run`.
        seconds: Stage -> how long it takes.
        changes: Stage -> how many times it changes something in the run folder.
    """

    root: Path
    seconds: dict[str, float] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _draw_photos(self.root)
        (self.root / "pipeline.yaml").write_text(yaml.safe_dump(_pipeline(self.root)))

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.root / "run"

    def folder(self, verb: str) -> Path:
        """Where a stage writes."""
        return self.run / FOLDER[verb]

    def expected(self, verb: str) -> Path:
        """What an uninterrupted run gave, once `prepare` was called."""
        return self.root / "expected" / FOLDER[verb]

    def prepare(self, verb: str) -> None:
        """Empties the run folder but for what the stage needs."""
        for needed in NEEDS[verb]:
            self._finish(needed)
        self._finish(verb)
        _empty(self.run)
        for needed in NEEDS[verb]:
            shutil.copytree(self.expected(needed), self.folder(needed))

    def start(self, verb: str, meddling: Meddling = Meddling(), *settings: str) -> Any:
        """Starts a stage, with settings besides those of the pipeline; returns its process."""
        words = [verb, *settings, "--config", str(self.root / "pipeline.yaml")]
        words += ["--", str(self.root / "photos")] if verb == "predict" else []
        return launch(_work, words, self.root, meddling)

    def finish(self, verb: str, meddling: Meddling = Meddling()) -> tuple[int, str]:
        """Runs a stage; returns its exit code and what it said."""
        process = self.start(verb, meddling)
        process.join(PATIENCE)
        assert process.exitcode is not None, f"{verb} hangs"
        return process.exitcode, self.said()

    def said(self) -> str:
        """What the last process said on stderr, without progress."""
        lines = (self.root / "said").read_text().split("\n")
        return "\n".join(line.rpartition("\r")[2] for line in lines if "saliency-gan: " in line or "Traceback" in line)

    def differences(self, verb: str) -> list[str]:
        """Names of files in which a stage's folder differs from what an uninterrupted run gave."""
        found, expected = _content(self.folder(verb)), _content(self.expected(verb))
        return sorted(name for name in found | expected if found.get(name) != expected.get(name))

    def _finish(self, verb: str) -> None:
        """Runs a stage without interruption, once."""
        if self.expected(verb).exists():
            return
        for needed in NEEDS[verb]:
            self._finish(needed)
        _empty(self.run)
        for needed in NEEDS[verb]:
            shutil.copytree(self.expected(needed), self.folder(needed))
        code, said = self.finish(verb)
        assert code == 0, said
        measured = json.loads((self.root / "measured").read_text())
        self.seconds[verb], self.changes[verb] = measured["seconds"], measured["changes"]
        shutil.copytree(self.folder(verb), self.expected(verb))


def _work(words: list[str], root: Path, meddling: Meddling) -> None:
    """What a process does. Batch statistics over fewer batches than usual save seconds."""
    import saliency_gan.generators.training
    import saliency_gan.training.self_training
    import saliency_gan.training.train_saliency
    from saliency_gan.cli.main import main

    os.dup2(os.open(root / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    saliency_gan.generators.training.FINAL_BATCHES = 2
    saliency_gan.training.train_saliency.STATISTICS_BATCHES = saliency_gan.training.self_training.STATISTICS_BATCHES = 1
    saliency_gan.training.self_training.MARKS_SAVED_EVERY = 4
    if meddling.clock:
        now = time.time
        time.time = lambda: now() + meddling.clock
    changes = _signal_before(meddling.at, meddling.signal, str(root / "run"))
    began = time.monotonic()
    code = main(words)
    (root / "measured").write_text(json.dumps({"seconds": time.monotonic() - began, "changes": len(changes)}))
    sys.exit(code)


def _signal_before(number: int | None, kind: int, folder: str) -> list[str]:
    """Sends this process a signal before its n-th change to a folder; the list fills with the changes."""
    changes: list[str] = []

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"):
            return
        reads = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if reads or isinstance(arguments[0], int) or not os.fsdecode(arguments[0]).startswith(folder):
            return
        changes.append(event)
        if len(changes) == number:
            os.kill(os.getpid(), kind)

    sys.addaudithook(look)
    return changes


def _content(folder: Path) -> dict[str, Any]:
    """Files by name; without the lock, TensorBoard's copy of the metrics, and how fast it went."""
    content: dict[str, Any] = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name != ".lock" and path.parent.name != "tensorboard":
            checkpoint = path.suffix == ".pt"
            content[str(path.relative_to(folder))] = _plain(load_torch(path)) if checkpoint else path.read_bytes()
    if "metrics.jsonl" in content:
        lines = [json.loads(line) for line in content["metrics.jsonl"].splitlines()]
        content["metrics.jsonl"] = [{key: line[key] for key in line if key not in RATES} for line in lines]
    for name in content:
        if Path(name).name == SOURCES_FILE:  # in the order in which threads ended; the last line of a result counts
            lines = [json.loads(line) for line in content[name].splitlines()]
            made = [line for line in lines if "result" in line]
            claimed = {kind for line in lines for kind in line.get("claimed", ())}
            content[name] = claimed, {line["result"]: (line["kinds"], line["file"], line["bytes"]) for line in made}
    return content


def _plain(value: Any) -> Any:
    """A checkpoint's content, with the bytes of its tensors, which may lie in memory in any order."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return (value.dtype, value.shape, value.numpy().tobytes()) if isinstance(value, torch.Tensor) else value


def _empty(folder: Path) -> None:
    """Removes what a folder holds, but not the folder, which may be a file system of its own."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        shutil.rmtree(path)


def _draw_photos(root: Path) -> None:
    """Two classes of discs, and photos of discs with their masks."""
    random = np.random.default_rng(0)
    for folder, count in (("classes/moons", 12), ("classes/stones", 12), ("photos", 6)):
        (root / folder).mkdir(parents=True)
        for index in range(count):
            mask = cv2.circle(np.zeros((24, 24), np.uint8), (12, 12), 6 + index % 4, 255, -1)
            noise = random.integers(100, 140, (24, 24, 3))
            image = np.where(mask[:, :, None] > 0, 200 if folder.endswith("moons") else 60, noise)
            _write(root / folder / f"{index}.png", image.astype(np.uint8))
            if folder == "photos":
                _write(root / "masks" / f"{index}.png", mask)


def _write(path: Path, image: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())


def _pipeline(root: Path) -> dict[str, Any]:
    run = root / "run"
    return {
        "run": str(run),
        "seed": 3,
        "device": "cpu",
        "generator": str(run / "generator" / "generator.safetensors"),
        "train-gan": {
            "images": str(root / "classes"), "resolution": 16, "latent_dim": 6, "embedding_dim": 4,
            "channels": [8, 6, 4], "discriminator_channels": [6, 8], "batch": 4, "steps": 9, "checkpoint_every": 3,
            "sample_every": 4, "log_every": 2, "distance_images": 0,
        },
        "discover": {
            "K": 4, "steps": 9, "batch": 4, "reconstructor": "lenet", "checkpoint_every": 3, "log_every": 2,
            "rca_samples": 8, "background_shifts": [2.0], "background_samples": 4, "gallery_samples": 1,
        },
        "masks": {
            "pairs": 24, "batch": 8, "shard_size": 4, "theta": "otsu", "opening": 0, "min_area": 0.0, "max_area": 1.0,
            "max_border": 1.0,
        },
        "train-saliency": {
            "encoder": "resnet18", "resolution": 32, "decoder_channels": [8, 8, 4], "steps": 5, "batch": 4,
            "validation_pairs": 4, "checkpoint_every": 2, "log_every": 1, "workers": 0,
        },
        "train-student": {
            "images": [str(root / "classes")], "steps": [3, 3], "resolutions": [32], "thresholds": [0.4],
            "restart": [True, False], "encoder": "resnet18", "encoder_weights": "none", "decoder_channels": [8, 4],
            "batch": 4, "held_out": 4, "mark_side": 32, "max_fall": 1.0, "checkpoint_every": 2, "log_every": 1,
            "min_confidence": 0.0, "min_agreement": 0.0, "min_area": 0.0, "max_area": 1.0, "workers": 0,
        },
        "adapt": {
            "images": [str(root / "classes")], "steps": [3, 3], "resolutions": [32], "mark_side": 32, "batch": 4,
            "held_out": 4, "synthetic_share": 0.25, "max_fall": 1.0, "checkpoint_every": 2, "log_every": 1,
            "min_confidence": 0.0, "min_agreement": 0.0, "min_area": 0.0, "max_area": 1.0, "workers": 0,
        },
        "evaluate": {
            "images": str(root / "photos"), "masks": str(root / "masks"), "workers": 0, "baselines": False,
            "weights": str(run / "saliency"),
        },
        "predict": {
            "output": str(run / "predictions"), "weights": str(run / "saliency"), "skip_existing": True, "batch": 2,
        },
    }  # fmt: skip
