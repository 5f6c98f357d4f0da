"""The verb `report`: writes one self-contained HTML page about everything in a run folder."""

from collections.abc import Callable, Iterator
from pathlib import Path

from saliency_gan.config import ReportConfig
from saliency_gan.errors import UserError, reason_of
from saliency_gan.pages.page import Section, render
from saliency_gan.reporting.stages import (
    adapt_section,
    discover_section,
    evaluation_section,
    generator_section,
    masks_section,
    pages_section,
    predictions_section,
    rating_section,
    student_section,
    train_section,
)
from saliency_gan.storage.files import read_json, write_text

PARTS: tuple[tuple[str, str, Callable[[Path, Section], bool]], ...] = (
    ("Generator", "generator", generator_section),
    ("Stage 1: directions", "discover", discover_section),
    ("What people said about them", "rating", rating_section),
    ("Stage 2: pairs of images and masks", "masks", masks_section),
    ("Stage 3: the saliency model", "saliency", train_section),
    ("Student", "student", student_section),
    ("Adaptation to photos", "adaptation", adapt_section),
    ("Evaluation", "evaluation", evaluation_section),
    ("Predictions", "predictions", predictions_section),
    ("Other pages of this run", "pages", pages_section),
)
"""Sections: title, anchor, and the function that fills the section. It returns False if the section is not needed."""
FOLDERS = (
    "generator", "discover", "sweep", "rating", "eigen", "dissect", "masks",
    "saliency", "student", "saliency-adapted", "evaluation", "predictions", "export",
)  # fmt: skip
"""A run folder holds at least one of these folders."""


def report(config: ReportConfig) -> Path:
    """Writes the page. It is self-contained.

    For each part that is missing or damaged, the page has a sentence that says so.

    Returns:
        The HTML file: `config.output`, or report.html in the run folder.

    Raises:
        UserError: If there is no such folder, or it is not a run folder.
    """
    if not config.run.is_dir():
        raise UserError(f"There is no run folder {config.run}: run a stage first, or name another folder with --run.")
    sections = [_careful(build, config.run, title, anchor) for title, anchor, build in PARTS]
    if not any((config.run / name).is_dir() for name in FOLDERS):
        raise UserError(f"{config.run} holds no stage of a run: run one first, or name another folder with --run.")
    facts = list(_facts(config.run))
    page = render(config.run.resolve().name, facts, [section for section in sections if section is not None])
    output = config.output or config.run / "report.html"
    write_text(output, page)
    print(f"report written to {output}")
    return output


def _careful(build: Callable[[Path, Section], bool], run: Path, title: str, anchor: str) -> Section | None:
    """Builds a section from the files that can be read; None if the part does not exist and is not needed."""
    section = Section(title, anchor)
    try:
        return section if build(run, section) else None
    except UserError as error:
        section.sentences.append(str(error))
    except OSError as error:
        section.sentences.append(f"A file of this part cannot be opened ({reason_of(error)}): look at its permissions.")
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        section.sentences.append(
            f"A file of this part is not as this version writes it ({error!r}): run the stage again."
        )
    return section


def _facts(run: Path) -> Iterator[tuple[str, str]]:
    """Names and values that identify the run."""
    yield "Run folder", str(run)
    for path in (run / "discover" / "directions.json", run / "masks" / "manifest.json"):
        try:
            generator = read_json(path)["generator"]
            yield "Generator", f"{generator['name']} (sha256 {generator['sha256'][:12]})"
            return
        except (UserError, KeyError, TypeError):
            continue
