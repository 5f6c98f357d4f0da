"""The verb `generators`: lists the generators of the zoo, their sizes, and whether their weights are present."""

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from saliency_gan.config import GeneratorsConfig
from saliency_gan.generators.zoo import GENERATORS, is_bundled
from saliency_gan.storage.bundled import bundled_folder
from saliency_gan.storage.files import cache_folder

BYTES_A_PARAMETER = 4
"""Published weights are float32."""


def list_generators(config: GeneratorsConfig) -> None:
    """Prints the table of generators, or JSON with more details."""
    described = [describe(name) for name, entry in GENERATORS.items() if entry.is_free or not config.free]
    if config.json:
        print(json.dumps(described, indent=1))
        return
    table = Table(box=None, padding=(0, 1, 0, 0))
    for header in ("generator", "px", "size", "K", "data", "licence", "status", "preset"):
        table.add_column(
            header, no_wrap=header not in ("data", "licence", "status"), min_width=8 if header == "status" else None
        )
    for entry in described:
        numbers = (str(entry["resolution"]), f"{entry['parameters'] / 1e6:.1f}M", str(entry["K"]))
        table.add_row(
            entry["name"], *numbers, entry["data"], entry["licence"], entry["status"], Path(entry["preset"]).name
        )
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(table)
    console.print(
        f"\nsaliency-gan discover --config {_presets()}/PRESET runs one; a file that train-gan wrote and"
        " PATH.py:FUNCTION are generators, too: see docs/generators.md.",
        soft_wrap=True,
    )


def describe(name: str) -> dict[str, Any]:
    """Describes a generator of the zoo in plain JSON values; `weights` is the folder for its weights."""
    entry = GENERATORS[name]
    folder = cache_folder() / name if entry.files else bundled_folder(name)
    return {
        "name": name,
        "resolution": entry.resolution,
        "latent_dim": entry.latent_dim,
        "num_classes": entry.num_classes,
        "parameters": entry.parameters,
        "K": entry.K,
        "data": entry.data,
        "licence": entry.licence,
        "free": entry.is_free,
        "status": _status(name),
        "preset": str(_presets() / entry.pipeline),
        "weights": str(folder),
        "files": [{"name": file.name, "sha256": file.sha256, "urls": list(file.urls)} for file in entry.files],
    }


def _presets() -> Path:
    """The folder of presets. It is beside the package in a checkout, and inside the package in an installation."""
    package = Path(__file__).parents[1]
    installed = package / "pipelines"
    folder = installed if installed.is_dir() else package.parent / "pipelines"
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def _status(name: str) -> str:
    entry = GENERATORS[name]
    if not entry.files:
        return "bundled" if is_bundled(name) else "to be trained"
    if all((cache_folder() / name / file.name).is_file() for file in entry.files):
        return "in the cache"
    if all(file.urls for file in entry.files):
        return f"to download ({BYTES_A_PARAMETER * entry.parameters / 1e6:.0f} MB)"
    return "weights needed"
