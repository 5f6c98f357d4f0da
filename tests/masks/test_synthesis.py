import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from saliency_gan.config import MasksConfig
from saliency_gan.errors import StageError, UserError
from saliency_gan.generators.biggan import BigGAN, BigGANArchitecture
from saliency_gan.generators.zoo import load_generator, save_generator
from saliency_gan.images.brightness import Polarity
from saliency_gan.images.tensors import to_uint8
from saliency_gan.masks import synthesis, tally
from saliency_gan.masks.candidates import CandidateSource, draw_latents
from saliency_gan.masks.shards import open_shards, shard_name
from saliency_gan.masks.synthesis import PairStream, synthesise
from saliency_gan.runs.random_streams import random_stream
from saliency_gan.storage import files
from saliency_gan.storage.files import sha256_of
from tests.masks.reading import read_all

from .discs import DiscGenerator, elsewhere, save_directions


def contents(folder: Path) -> dict[str, Any]:
    """Everything that a run writes but its settings, which name the run's folder."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    manifest = json.loads(files.pop("manifest.json"))
    del files["config.yaml"], files[".lock"], manifest["config"]
    return {**files, "manifest": manifest}


def interrupt_after(shards: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the run end by Ctrl-C when it begins to write one shard more than `shards`."""
    write = synthesis.write_shard

    def write_or_stop(path: Path, first: int, samples: Any) -> None:
        if path.name == shard_name(shards):
            raise KeyboardInterrupt
        write(path, first, samples)

    monkeypatch.setattr(synthesis, "write_shard", write_or_stop)


@pytest.mark.parametrize("polarity", ["bright", "dark"])
@pytest.mark.parametrize("rule", ["threshold", "difference", "lighting", "two-sided"])
@pytest.mark.parametrize("theta", [0.9, "otsu"])
def test_the_masks_are_the_discs(config: MasksConfig, disc: DiscGenerator, rule: Any, theta: Any, polarity: Polarity):
    save_directions(config.run / "discover", disc, polarity)
    config = replace(config, rule=rule, theta=theta, classes=("disc",), pairs=12)
    images, masks, infos = read_all(open_shards(synthesise(config)))
    latents, classes = draw_latents(disc, config.seed, [info["seed"] for info in infos], [0])
    truth = disc.object_masks(latents, classes).numpy()
    np.testing.assert_array_equal(images, to_uint8(disc(latents, classes)))
    # Grounds that are white (or black) before the shift do not change with it, so the lighting rule cannot see them.
    judged = [index for index, ground in enumerate(latents[:, 0]) if rule != "lighting" or abs(ground) < 1.9]
    assert len(judged) >= 9
    for index in judged:
        np.testing.assert_array_equal(masks[index], 255 * truth[index])
        number, area = infos[index]["seed"], round(float(truth[index].mean()), 6)
        assert infos[index] == {"class": "disc", "seed": number, "shift": 12.0, "area": area}
    assert all(one["seed"] < next["seed"] for one, next in pairwise(infos))


def test_the_manifest_adds_up(config: MasksConfig, disc: DiscGenerator):
    folder = synthesise(config)
    manifest = open_shards(folder).manifest
    last = read_all(open_shards(folder))[2][-1]["seed"]
    _, classes = draw_latents(disc, config.seed, range(last + 1))
    drawn = Counter(disc.class_names[label] for label in classes)
    assert manifest["accepted_by_class"] == {"disc": 20} == {"disc": drawn["disc"]}
    assert manifest["rejections"] == {"min_area": drawn["empty"], "max_area": drawn["full"]}
    assert manifest["rejections_by_class"] == {
        "empty": {"min_area": drawn["empty"]}, "full": {"max_area": drawn["full"]}
    }  # fmt: skip
    assert manifest["candidates"] == last + 1 == manifest["pairs"] + sum(manifest["rejections"].values())
    assert [shard["pairs"] for shard in manifest["shards"]] == [8, 8, 4]
    assert manifest["generator"] == {"name": "disc", "sha256": disc.sha256}
    assert manifest["directions_sha256"] == sha256_of(config.run / "discover" / "directions.safetensors")
    assert (manifest["resolution"], manifest["config"]["theta"]) == (32, 0.9)


@pytest.mark.parametrize(("image_format", "start"), [("png", b"\x89PNG"), ("jpg", b"\xff\xd8\xff")])
def test_images_have_the_format_that_was_asked_for(config: MasksConfig, image_format: Any, start: bytes):
    folder = synthesise(replace(config, pairs=3, image_format=image_format))
    with tarfile.open(folder / shard_name(0)) as shard:
        files = {member.name: shard.extractfile(member).read() for member in shard}
    suffixes = (image_format, "mask.png", "json")
    assert sorted(files) == sorted(f"{number:08d}.{suffix}" for number in range(3) for suffix in suffixes)
    for number in range(3):
        assert files[f"{number:08d}.{image_format}"].startswith(start)
        assert files[f"{number:08d}.mask.png"].startswith(b"\x89PNG")


def test_the_same_settings_give_the_same_bytes_and_another_seed_others(config: MasksConfig):
    one, same = synthesise(config), synthesise(elsewhere(config, "same"))
    other = synthesise(replace(elsewhere(config, "other"), seed=1))
    assert contents(one) == contents(same)
    assert contents(one)[shard_name(0)] != contents(other)[shard_name(0)]


@pytest.mark.parametrize("shards", [0, 1, 2])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    config: MasksConfig, monkeypatch: pytest.MonkeyPatch, shards: int
):
    expected = contents(synthesise(elsewhere(config, "uninterrupted")))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_after(shards, patch)
        synthesise(config)
    folder = config.run / "masks"
    assert len(list(folder.glob("*.tar"))) == shards and not (folder / "manifest.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("*.tar")}
    assert contents(synthesise(config)) == expected
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_killed_process_goes_on_to_the_same_bytes(tmp_path: Path):
    generator = BigGAN(BigGANArchitecture(16, 12, 3, 4, (16, 12, 8)))
    generator.initialise(random_stream(0))
    save_generator(generator, tmp_path / "tiny.safetensors")
    save_directions(tmp_path / "directions", load_generator(str(tmp_path / "tiny.safetensors")))
    settings = {"generator": str(tmp_path / "tiny.safetensors"), "directions": tmp_path / "directions", "device": "cpu"}
    config = MasksConfig(
        run=tmp_path / "killed", pairs=300, shard_size=20, min_area=0.01, max_area=0.99, theta="otsu", **settings
    )
    code = "import pathlib, sys; PosixPath = pathlib.PosixPath\nfrom saliency_gan.config import MasksConfig\n"
    code += f"from saliency_gan.masks.synthesis import synthesise\nsynthesise({config!r})"
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | threads, stderr=subprocess.DEVNULL)
    masks = tmp_path / "killed" / "masks"
    while not (masks / "records" / "shard-000001.json").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 2 <= len(list(masks.glob("*.tar"))) < 15
    assert contents(synthesise(config)) == contents(synthesise(replace(config, run=tmp_path / "whole")))
    assert not list(masks.rglob("*.partial"))


def test_shards_that_were_lost_or_damaged_are_drawn_again(config: MasksConfig):
    folder = synthesise(config)
    expected = contents(folder)
    (folder / shard_name(1)).write_bytes(b"damaged")
    (folder / shard_name(2)).unlink()
    assert contents(synthesise(config)) == expected


def test_a_finished_run_is_left_as_it_is(config: MasksConfig):
    folder = synthesise(config)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.tar")}
    synthesise(config)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.tar")} == before


def test_more_pairs_can_be_asked_for_later(config: MasksConfig):
    synthesise(config)
    changed = contents(synthesise(replace(config, pairs=40)))
    expected = contents(synthesise(replace(elsewhere(config, "at-once"), pairs=40)))
    assert changed == expected


@pytest.mark.parametrize("pairs", [3, 16])
def test_fewer_pairs_are_refused_because_finished_ones_would_be_lost(config: MasksConfig, pairs: int):
    folder = synthesise(config)
    before, settings = contents(folder), (folder / "config.yaml").read_bytes()
    with pytest.raises(UserError, match=f"masks holds 20 pairs already, and --pairs {pairs} would remove some"):
        synthesise(replace(config, pairs=pairs))
    assert contents(folder) == before and (folder / "config.yaml").read_bytes() == settings


def test_other_settings_are_refused_in_a_begun_folder(config: MasksConfig):
    synthesise(config)
    with pytest.raises(UserError, match=r"begun with theta = 0.9, but theta = 0.8"):
        synthesise(replace(config, theta=0.8))


def test_other_directions_are_refused_in_a_begun_folder(config: MasksConfig, disc: DiscGenerator):
    folder = synthesise(config)
    before = contents(folder)
    save_directions(config.run / "discover", disc, "dark")
    with pytest.raises(UserError, match="pairs of another generator, other directions, other units"):
        synthesise(config)
    assert contents(folder) == before
    with pytest.raises(UserError, match="other directions than those of"):
        open_shards(folder)


def test_a_file_that_is_no_record_is_refused(config: MasksConfig):
    folder = synthesise(config)
    (folder / "records" / "shard-000001.json").write_text("[]")
    with pytest.raises(UserError, match=r"shard-000001.json is not a record"):
        synthesise(config)


def test_a_disk_that_is_too_small_is_noticed_before_drawing(config: MasksConfig, monkeypatch: pytest.MonkeyPatch):
    usage = shutil.disk_usage(config.run)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=160_000))
    with pytest.raises(StageError, match=r"20 pairs need about 0 MB .* but 0 MB are free.*--pairs"):
        synthesise(config)
    assert not list((config.run / "masks").glob("*.tar"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=170_000))
    assert len(open_shards(synthesise(config))) == 20


def test_a_disk_that_fills_up_loses_nothing(config: MasksConfig, monkeypatch: pytest.MonkeyPatch):
    expected = contents(synthesise(elsewhere(config, "enough")))

    def full(descriptor: int) -> None:
        if list((config.run / "masks").glob(".shard-000001*")):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(StageError, match=r"disk is full.*shard-000001.tar"):
        patch.setattr(files.os, "fsync", full)
        synthesise(config)
    assert [path.name for path in (config.run / "masks").glob("*shard*")] == [shard_name(0)]
    assert contents(synthesise(config)) == expected


def test_a_hopeless_rule_ends_with_advice_that_can_be_followed(config: MasksConfig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tally, "HOPELESS_AFTER", 100)
    with pytest.raises(StageError, match=r"Only 0 of 100 .* min_area rejected .*--min_area"):
        synthesise(replace(config, min_area=0.5))
    assert len(open_shards(synthesise(config))) == 20
    with pytest.raises(StageError, match="min_area"):
        next(iter(PairStream(replace(config, min_area=0.5))))


def test_the_preview_shows_image_shift_and_mask(config: MasksConfig, disc: DiscGenerator):
    folder = synthesise(replace(config, pairs=50, shard_size=50))
    sheet = cv2.cvtColor(cv2.imread(str(folder / "preview.png")), cv2.COLOR_BGR2RGB)
    assert sheet.shape == (8 * (32 + 6) - 6, 6 * (3 * 32 + 6) - 6, 3)
    images, masks, infos = read_all(open_shards(folder))
    tile = sheet[38 : 38 + 32, :96]  # the seventh pair
    image, shifted, mask = tile[:, :32], tile[:, 32:64], tile[:, 64:]
    outlined = (image == (255, 0, 60)).all(axis=2)
    np.testing.assert_array_equal(image[~outlined], images[6][~outlined])
    assert (masks[6][outlined] == 255).all() and outlined.any()
    np.testing.assert_array_equal(mask, np.repeat(masks[6][:, :, None], 3, axis=2))
    latents, classes = draw_latents(disc, config.seed, [infos[6]["seed"]])
    np.testing.assert_array_equal(shifted, to_uint8(disc(latents + 12 * torch.eye(4)[0], classes))[0])


def test_the_preview_draws_no_more_images_at_once_than_asked(config: MasksConfig, monkeypatch: pytest.MonkeyPatch):
    drawn, forward = [], DiscGenerator.forward

    def counted(self, latents, classes):
        drawn.append(len(latents))
        return forward(self, latents, classes)

    monkeypatch.setattr(DiscGenerator, "forward", counted)
    synthesise(replace(config, pairs=30, shard_size=30, batch=4))
    assert max(drawn) == 4


def test_pairs_on_the_fly_are_those_of_the_shards(config: MasksConfig):
    images, masks, _ = read_all(open_shards(synthesise(config)))
    stream = PairStream(config, batch=5)
    assert stream.resolution == 32
    for index, (some_images, some_masks) in enumerate(islice(stream, 4)):
        np.testing.assert_array_equal(some_images, images[5 * index : 5 * index + 5])
        np.testing.assert_array_equal(some_masks, masks[5 * index : 5 * index + 5])
        assert some_masks.dtype == np.uint8


def test_a_stream_goes_on_from_its_position(config: MasksConfig):
    expected = list(islice(PairStream(config), 5))
    begun = PairStream(config)
    list(islice(begun, 2))
    for one, other in zip(expected[2:], islice(PairStream(config, first=begun.position), 3), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_a_source_stops_its_threads_when_it_is_closed(config: MasksConfig):
    before = threading.active_count()
    stream = CandidateSource(config).stream()
    next(stream)
    assert threading.active_count() > before
    stream.close()
    assert threading.active_count() == before
