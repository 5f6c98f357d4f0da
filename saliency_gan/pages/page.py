"""The parts of the page: sections with sentences, tables, charts and pictures."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from saliency_gan.errors import UserError
from saliency_gan.images.layout import shrink
from saliency_gan.images.reading import UnreadableImageError, read_image
from saliency_gan.images.writing import encode
from saliency_gan.pages.charts import Chart
from saliency_gan.storage.yaml_files import read_yaml

MAX_SIDE = 1600
"""Larger pictures are reduced to this many pixels on the longer side."""


@dataclass(frozen=True)
class Picture:
    """A picture inside the page.

    Attributes:
        caption: Description of the picture.
        source: Data URI.
        width: Width in pixels.
        height: Height in pixels.
        wide: Whether it has a row of its own.
    """

    caption: str
    source: str
    width: int
    height: int
    wide: bool = True


@dataclass(frozen=True)
class Table:
    """A table. Cells are text, and the first cell of a row is its heading.

    Attributes:
        caption: Description of the table.
        head: Column headings.
        rows: Cells of each row.
        strong: Indices of the rows to highlight.
        words: Indices of the columns that hold words, not figures, apart from the first column.
        folded: Whether the table is shown only after a click.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: tuple[int, ...] = ()
    words: tuple[int, ...] = ()
    folded: bool = False


@dataclass
class Section:
    """One part of the page. `sentences` also say what is missing."""

    title: str
    anchor: str
    sentences: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)

    def show(self, path: Path, caption: str, wide: bool = True) -> None:
        """Adds a picture, or a sentence if the file cannot be read, or nothing if there is no file."""
        if not path.exists():
            return
        try:
            self.pictures.append(load_picture(path, caption, wide))
        except UnreadableImageError as error:
            self.sentences.append(str(error))

    def show_settings(self, folder: Path) -> None:
        """Adds the stage's settings as a folded table, or a sentence if the file cannot be read."""
        if not (folder / "config.yaml").exists():
            return
        try:
            rows = [(name, _text(value)) for name, value in read_yaml(folder / "config.yaml").items()]
            self.tables.append(Table("Settings", ("setting", "value"), rows, words=(1,), folded=True))
        except UserError as error:
            self.sentences.append(str(error))


def render(name: str, facts: Sequence[tuple[str, str]], sections: Sequence[Section]) -> str:
    """Renders the page; all text is escaped.

    Args:
        name: Title of the page.
        facts: Names and values that identify the run.
        sections: Sections of the page, in their order.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = (files("saliency_gan.pages") / "page.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(template).render(name=name, facts=facts, sections=sections)


def load_picture(path: Path, caption: str, wide: bool = True) -> Picture:
    """Reads a picture, shrinks it to MAX_SIDE and packs it into a data URI.

    Raises:
        UnreadableImageError: If it cannot be read.
    """
    image = shrink(read_image(path), MAX_SIDE)
    data = base64.b64encode(encode(image, ".jpg", quality=88)).decode()
    return Picture(caption, f"data:image/jpeg;base64,{data}", image.shape[1], image.shape[0], wide)


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
