"""The verb `report`: one self-contained HTML page about everything that a run folder holds."""

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import jinja2

from saliency_gan.charts import Chart, read_charts
from saliency_gan.config import ReportConfig, read_yaml
from saliency_gan.errors import UserError
from saliency_gan.evaluation.metrics import METRICS
from saliency_gan.evaluation.tables import cells, heading, table_rows, told
from saliency_gan.images import UnreadableImageError, encode, find_images, read_image
from saliency_gan.runs import read_json, write_bytes

MAX_SIDE = 1600
"""Pictures are shrunk to this many pixels on the longer side."""
GALLERY_PICTURES = 4
RANKED_DIRECTIONS = 12
CLASSES_SHOWN = 200
EVALUATIONS_SHOWN = 6
PREDICTIONS_SHOWN = 12


@dataclass(frozen=True)
class Picture:
    """A picture inside the page.

    Attributes:
        caption: What it shows.
        source: Data URI.
        width: Pixels.
        height: Pixels.
        wide: Takes a row of its own.
    """

    caption: str
    source: str
    width: int
    height: int
    wide: bool = True


@dataclass(frozen=True)
class Table:
    """A table; cells are text, the first column is a heading of its row.

    Attributes:
        caption: What it shows.
        head: Column headings.
        rows: Cells of each row.
        strong: Numbers of the rows to stress.
        folded: Show it only on a click.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: tuple[int, ...] = ()
    folded: bool = False


@dataclass
class Section:
    """One part of the page; what is missing is said in `sentences`."""

    title: str
    anchor: str
    sentences: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)

    def show(self, path: Path, caption: str, wide: bool = True) -> None:
        """Adds a picture, or a sentence where the file cannot be read; nothing where there is none."""
        if not path.exists():
            return
        try:
            self.pictures.append(load_picture(path, caption, wide))
        except UnreadableImageError as error:
            self.sentences.append(str(error))

    def show_settings(self, folder: Path) -> None:
        """Adds the stage's settings as a folded table."""
        if (folder / "config.yaml").exists():
            rows = [(name, _text(value)) for name, value in read_yaml(folder / "config.yaml").items()]
            self.tables.append(Table("Settings", ("setting", "value"), rows, folded=True))


def report(config: ReportConfig) -> Path:
    """Writes the page; it loads nothing from anywhere else.

    Parts that are missing or damaged are named in a sentence each.

    Returns:
        The HTML file: `config.output`, or report.html in the run folder.

    Raises:
        UserError: If there is no run folder.
    """
    if not config.run.is_dir():
        raise UserError(f"There is no run folder {config.run}: run a stage first, or name another folder with --run.")
    sections = [_careful(build, config.run, title, anchor) for title, anchor, build in PARTS]
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((files("saliency_gan") / "report.html.jinja").read_text(encoding="utf-8"))
    page = template.render(
        name=config.run.resolve().name, facts=_facts(config.run), sections=[section for section in sections if section]
    )
    output = config.output or config.run / "report.html"
    write_bytes(output, page.encode())
    print(f"report written to {output}")
    return output


def load_picture(path: Path, caption: str, wide: bool = True) -> Picture:
    """Reads a picture, shrinks it to MAX_SIDE and packs it into a data URI.

    Raises:
        UnreadableImageError: If it cannot be read.
    """
    image = read_image(path)
    height, width = image.shape[:2]
    scale = min(1.0, MAX_SIDE / max(height, width))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    data = base64.b64encode(encode(image, ".jpg", quality=88)).decode()
    return Picture(caption, f"data:image/jpeg;base64,{data}", image.shape[1], image.shape[0], wide)


def _careful(build: Callable[[Path, Section], bool], run: Path, title: str, anchor: str) -> Section | None:
    """A section with what could be read; None where the part does not exist and need not."""
    section = Section(title, anchor)
    try:
        return section if build(run, section) else None
    except UserError as error:
        section.sentences.append(str(error))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        section.sentences.append(
            f"The files in {run} are not as this version writes them ({error!r}): run the stage again."
        )
    return section


def _facts(run: Path) -> Iterator[tuple[str, str]]:
    """Name and value of what identifies the run."""
    yield "Run folder", str(run)
    for path in (run / "discover" / "directions.json", run / "masks" / "manifest.json"):
        try:
            generator = read_json(path)["generator"]
            yield "Generator", f"{generator['name']} (sha256 {generator['sha256'][:12]})"
            return
        except (UserError, KeyError, TypeError):
            continue


def _generator(run: Path, section: Section) -> bool:
    folder = run / "generator"
    if not folder.is_dir():
        return False
    section.show_settings(folder)
    section.charts += read_charts(folder / "metrics.jsonl")
    if not (folder / "generator.safetensors").exists():
        section.sentences.append("The generator is not finished: make train-gan goes on with it.")
    if samples := sorted((folder / "samples").glob("*.png")):
        section.show(samples[-1], f"Samples, {samples[-1].stem}")
    return True


def _discover(run: Path, section: Section) -> bool:
    folder = run / "discover"
    section.charts += read_charts(folder / "metrics.jsonl")
    if not (folder / "directions.json").exists():
        section.sentences.append(_not_there("Stage 1", folder, "discover"))
        return True
    section.show_settings(folder)
    found = read_json(folder / "directions.json")
    section.sentences += [_choice(found), _rca(found["rca"])]
    ranked = found["directions"][:RANKED_DIRECTIONS]
    if ranked:
        head = ["direction", "sign", "shift", "polarity", "score", *ranked[0]["parts"]]
        chosen = tuple(row for row, entry in enumerate(ranked) if entry["index"] == found["background"]["index"])
        rows = [
            [
                str(entry["index"]),
                f"{entry['sign']:+d}",
                f"{entry['shift']:g}",
                entry["polarity"],
                *(f"{value:.3f}" for value in (entry["score"], *entry["parts"].values())),
            ]
            for entry in ranked
        ]
        caption = "The best directions; the score is the geometric mean of its parts, each from 0 to 1"
        section.tables.insert(0, Table(caption, head, rows, chosen))
    section.show(
        folder / "ranking.png", "Along a row G(z + s h, c), from s = 0 to the chosen shift; its mask at the end"
    )
    for entry in ranked[:GALLERY_PICTURES]:
        picture = folder / "gallery" / f"direction-{entry['index']:03d}.png"
        section.show(picture, f"Direction {entry['index']}, shifts from -8 to 8", wide=False)
    return True


def _choice(found: dict[str, Any]) -> str:
    background = found["background"]
    name = "an optimised direction" if background["index"] is None else f"direction {background['index']}"
    how = {
        ("rank", "auto"): f"it has the best score of {len(found['directions'])} directions, each with both signs",
        ("optimise", "auto"): "it was found by gradient: edges kept, centre and border told apart",
    }.get((background["method"], background["chosen_by"]), "a person chose it")
    return (
        f"The background direction h_bg is {name}, sign {background['sign']:+d}, shift {background['shift']:g}: {how}."
        f" It turns the background {background['polarity']}."
    )


def _rca(rca: dict[str, float]) -> str:
    if not rca:
        return "The reconstructor's accuracy (RCA) was not measured."
    return (
        f"The reconstructor names the right direction for {rca['accuracy']:.1%} of {rca['samples']:,.0f} fresh pairs"
        f" (RCA; 95 % interval {rca['low']:.1%} to {rca['high']:.1%})."
    )


def _masks(run: Path, section: Section) -> bool:
    folder = run / "masks"
    if not (folder / "manifest.json").exists():
        section.sentences.append(_not_there("Stage 2", folder, "masks"))
        return True
    manifest = read_json(folder / "manifest.json")
    rejected, pairs = manifest["rejections"], manifest["pairs"]
    drawn = pairs + sum(rejected.values())
    section.sentences.append(
        f"{pairs:,} pairs of {manifest['resolution']} px were accepted of {drawn:,} drawn ({pairs / max(1, drawn):.0%})."
    )
    fates = [("accepted", pairs), *sorted(rejected.items(), key=lambda item: -item[1])]
    rows = [(name, f"{count:,}", f"{count / max(1, drawn):.1%}") for name, count in fates]
    section.tables.append(Table("What became of the pairs that were drawn", ("check", "pairs", "share"), rows, (0,)))
    section.tables.append(_by_class(manifest))
    section.show_settings(folder)
    section.show(folder / "preview.png", "The first pairs: image with the mask's outline, shifted image, mask")
    return True


def _by_class(manifest: dict[str, Any]) -> Table:
    accepted, rejected = manifest["accepted_by_class"], manifest["rejections_by_class"]
    checks = list(manifest["rejections"])
    counts = []
    for name in {*accepted, *rejected}:
        kept, lost = accepted.get(name, 0), rejected.get(name, {})
        counts.append((kept / max(1, kept + sum(lost.values())), name, kept, lost))
    counts.sort(key=lambda entry: (-entry[0], entry[1]))
    rows = [
        (name, f"{share:.0%}", f"{kept:,}", *(f"{lost.get(check, 0):,}" for check in checks))
        for share, name, kept, lost in counts[:CLASSES_SHOWN]
    ]
    more = f"; {len(counts) - CLASSES_SHOWN} more are in manifest.json" if len(counts) > CLASSES_SHOWN else ""
    head = ("class", "accepted", "pairs", *checks)
    return Table(f"The same by class, {len(counts)} classes{more}", head, rows, folded=True)


def _train(run: Path, section: Section) -> bool:
    folder = run / "saliency"
    section.charts += read_charts(folder / "metrics.jsonl")
    if not (folder / "model.safetensors").exists():
        section.sentences.append(_not_there("Stage 3", folder, "train-saliency"))
    section.show_settings(folder)
    section.show(folder / "preview.png", "Held-out pairs: image, mask, and the model's map")
    return True


def _adapt(run: Path, section: Section) -> bool:
    folder = run / "saliency-adapted"
    if not folder.is_dir():
        return False
    section.sentences.append("Self-training on unlabelled photos goes beyond the paper and is measured apart from it.")
    section.charts += read_charts(folder / "metrics.jsonl")
    if not (folder / "model.safetensors").exists():
        section.sentences.append(_not_there("Adaptation", folder, "adapt"))
    section.show_settings(folder)
    section.show(folder / "preview.png", "Photos and the masks that the model is trained on")
    return True


def _evaluation(run: Path, section: Section) -> bool:
    results = sorted((run / "evaluation").glob("*.json"))[:EVALUATIONS_SHOWN]
    if not results:
        section.sentences.append("Nothing has been measured yet: make evaluate.")
    for path in results:
        result = read_json(path)
        rows = table_rows(result)
        title = f"{result['dataset']['title']}, {result['dataset']['pairs']:,} photos"
        head = ("", "supervision", *(heading(key, name) for key, name in METRICS.items()))
        lines = [(f"{row.name} ({row.source})" if row.source else row.name, told(row), *cells(row)) for row in rows]
        section.tables.append(Table(title, head, lines, (0,)))
        section.sentences.append(f"{title}: {result['counting']}")
        for kind, caption in (("curves", "Curves"), ("best", "The best by IoU"), ("worst", "The worst by IoU")):
            what = "" if kind == "curves" else ": photo, drawn mask, saliency map"
            section.show(path.with_name(f"{path.stem}-{kind}.png"), f"{title}. {caption}{what}")
    return True


def _predictions(run: Path, section: Section) -> bool:
    folder = run / "predictions"
    kind = next((kind for kind in ("overlay", "cutout", "map", "mask") if (folder / kind).is_dir()), None)
    if kind is None:
        section.sentences.append("No photo has been marked yet: make predict.")
        return True
    for path in find_images(folder / kind, recursive=True)[:PREDICTIONS_SHOWN]:
        section.show(path, f"{path.stem} ({kind})", wide=False)
    return True


PARTS: tuple[tuple[str, str, Callable[[Path, Section], bool]], ...] = (
    ("Generator", "generator", _generator),
    ("Stage 1: directions", "discover", _discover),
    ("Stage 2: pairs of images and masks", "masks", _masks),
    ("Stage 3: the saliency model", "saliency", _train),
    ("Adaptation to photos", "adaptation", _adapt),
    ("Evaluation", "evaluation", _evaluation),
    ("Predictions", "predictions", _predictions),
)
"""Sections of the page: title, anchor, and what fills it; that returns False where the part need not be there."""


def _not_there(stage: str, folder: Path, verb: str) -> str:
    state = "has not finished" if folder.is_dir() else "has not run yet"
    return f"{stage} {state}: make {verb}{' goes on where it stopped' if folder.is_dir() else ''}."


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
