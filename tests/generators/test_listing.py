import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from saliency_gan.cli.main import main
from saliency_gan.generators import listing, zoo
from saliency_gan.generators.downloads import PublicFile

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SALIENCY_GAN_CACHE", str(tmp_path))
    monkeypatch.chdir(REPOSITORY)  # presets are named as they are seen from here
    return tmp_path


def test_the_table_has_a_line_for_every_generator(capsys):
    assert main(["generators"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, entry in zoo.GENERATORS.items():
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        for part in (f"{entry.parameters / 1e6:.1f}M", entry.K, entry.licence, entry.pipeline):
            assert f" {part} " in line
    (line,) = [line for line in lines if line.startswith("biggan-128 ")]
    assert line.split() == [
        "biggan-128",
        "128",
        "70.4M",
        "120",
        "ImageNet",
        "MIT",
        "to",
        "download",
        "(282",
        "MB)",
        "biggan-128-paper.yaml",
    ]


def test_free_generators_are_those_without_a_restriction_of_use(capsys):
    assert main(["generators", "--free", "--json"]) == 0
    names = {entry["name"] for entry in json.loads(capsys.readouterr().out)}
    assert names == {"biggan-caltech101-64", "sngan-mnist", "eigengan-caltech101-64"}
    assert main(["generators", "--free"]) == 0
    assert "biggan-deep-128" not in capsys.readouterr().out


def test_json_has_everything_and_can_be_read(capsys, cache):
    assert main(["generators", "--json"]) == 0
    described = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert list(described) == list(zoo.GENERATORS)
    entry = described["biggan-128"]
    assert entry["preset"] == "pipelines/biggan-128-paper.yaml"
    assert (entry["latent_dim"], entry["num_classes"], entry["parameters"]) == (120, 1000, 70_433_988)
    assert entry["weights"] == str(cache / "biggan-128")
    (file,) = entry["files"]
    assert file["name"] == "G_ema.pth" and file["sha256"] is None and len(file["urls"]) == 2


def test_status(cache, monkeypatch):
    assert listing.describe("biggan-caltech101-64")["status"] == "bundled"
    assert listing.describe("biggan-deep-128")["status"] == "to download (202 MB)"
    folder = cache / "biggan-deep-128"
    folder.mkdir()
    (folder / "config.json").touch()
    assert listing.describe("biggan-deep-128")["status"] == "to download (202 MB)"
    (folder / "pytorch_model.bin").touch()
    assert listing.describe("biggan-deep-128")["status"] == "in the cache"
    unavailable = zoo.Entry(
        resolution=32, latent_dim=2, num_classes=1, parameters=5, K=2, pipeline="x.yaml", licence="none", data="x",
        files=(PublicFile("weights.bin", ()),),
    )  # fmt: skip
    for entry, status in ((unavailable, "weights needed"), (replace(unavailable, files=()), "to be trained")):
        monkeypatch.setitem(zoo.GENERATORS, "tiny", entry)
        assert listing.describe("tiny")["status"] == status


def test_presets_are_named_where_they_are_when_the_package_was_installed(tmp_path, monkeypatch, capsys):
    installed = tmp_path / "site" / "saliency_gan"
    (installed / "pipelines").mkdir(parents=True)
    monkeypatch.setattr(listing, "__file__", str(installed / "generators" / "listing.py"))
    assert main(["generators"]) == 0
    assert f"--config {installed / 'pipelines'}/PRESET" in capsys.readouterr().out
    assert listing.describe("biggan-128")["preset"] == str(installed / "pipelines" / "biggan-128-paper.yaml")


def test_the_wheel_has_the_presets():
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert settings["force-include"] == {"pipelines": "saliency_gan/pipelines"}
    assert all((REPOSITORY / "pipelines" / entry.pipeline).is_file() for entry in zoo.GENERATORS.values())
