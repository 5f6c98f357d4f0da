"""Reads the files of each stage in a run folder into a section of the page.

Each function returns whether the section belongs on the page. If something is missing, the section has a sentence that
says so.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from saliency_gan.directions.criteria import CRITERIA
from saliency_gan.errors import UserError
from saliency_gan.evaluation.metrics import METRICS
from saliency_gan.evaluation.tables import cells, heading, table_rows, told
from saliency_gan.images.folders import IMAGE_SUFFIXES, search
from saliency_gan.masks.tally import GOOD_FIT
from saliency_gan.pages.charts import read_charts
from saliency_gan.pages.page import Section, Table
from saliency_gan.storage.files import read_json

GALLERY_PICTURES = 4
RANKED_DIRECTIONS = 12
CLASSES_SHOWN = 200
EVALUATIONS_SHOWN = 6
PREDICTIONS_SHOWN = 12
ROUND_FIGURES = {
    "agreement": "agreement",
    "area": "area",
    "photos_iou": "IoU",
    "photos_accuracy": "accuracy",
    "photos_mae": "MAE",
}
"""Figures that the page shows for a round of self-training: name in rounds.json -> heading."""


def generator_section(run: Path, section: Section) -> bool:
    """Stage 0: training curves and the last samples; only if a generator was trained in this run."""
    folder = run / "generator"
    if not folder.is_dir():
        return False
    section.show_settings(folder)
    section.charts += read_charts(folder / "metrics.jsonl")
    if not (folder / "generator.safetensors").exists():
        section.sentences.append(
            f"The generator is not finished: {_command('train-gan', run)}, with the same settings, goes on with it."
        )
    if samples := sorted((folder / "samples").glob("*.png")):
        section.show(samples[-1], f"Samples, {samples[-1].stem}")
    return True


def discover_section(run: Path, section: Section) -> bool:
    """Stage 1: why h_bg was chosen, RCA, the ranking and the training curves."""
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
        names = found.get("names", {})
        head = ["direction", "name", "sign", "shift", "polarity", "score", *ranked[0]["parts"]]
        chosen = tuple(row for row, entry in enumerate(ranked) if entry["index"] == found["background"]["index"])
        rows = [
            [
                str(entry["index"]),
                names.get(str(entry["index"]), ""),
                f"{entry['sign']:+d}",
                f"{entry['shift']:g}",
                entry["polarity"],
                *(f"{value:.3f}" for value in (entry["score"], *entry["parts"].values())),
            ]
            for entry in ranked
        ]
        caption = "The best directions; the score is the geometric mean of its parts, each from 0 to 1"
        section.tables.insert(0, Table(caption, head, rows, chosen, words=(1, 4)))
        meanings = [(name, CRITERIA.get(name, "")) for name in ranked[0]["parts"]]
        section.tables.append(
            Table("What the parts of a score mean", ("part", "meaning"), meanings, words=(1,), folded=True)
        )
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
    if called := found.get("names", {}).get(str(background["index"])):
        name += f" ({called})"
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


def rating_section(run: Path, section: Section) -> bool:
    """Opinions about the directions: MOS by kind and the best learned directions; only if people have rated them."""
    if not (run / "rating" / "mos.json").exists():
        return False
    result = read_json(run / "rating" / "mos.json")
    people = len(result["raters"])
    section.sentences.append(
        f"{people} {'person' if people == 1 else 'people'} answered. A direction's score is the share of them that said"
        " yes to both questions; MOS is the mean over the rated directions, absolute MOS is MOS times their number."
    )
    head = ("directions", "rated", "MOS", "interval", "absolute MOS", "interval", "Fleiss' kappa")
    rows = [
        (
            kind,
            f"{counted['rated']} of {counted['columns']}",
            f"{counted['mos']:.2f}",
            _between(counted["mos_interval"], ".2f"),
            f"{counted['absolute']:.1f}",
            _between(counted["absolute_interval"], ".1f"),
            "" if counted["kappa"] is None else f"{counted['kappa']:.2f}",
        )
        for kind, counted in result["kinds"].items()
    ]
    section.tables.append(Table(f"MOS, with {result['confidence']:.0%} intervals", head, rows, words=(3, 5)))
    learned = [one for one in result["directions"] if one["kind"] == "learned"][:RANKED_DIRECTIONS]
    best = [
        (
            str(one["index"]),
            ", ".join(dict.fromkeys([one["name"], *one["called"]])).removeprefix(", "),
            str(one["raters"]),
            f"{one['mos']:.2f}",
        )
        for one in learned
    ]
    section.tables.append(
        Table(
            "The learned directions with the best scores", ("direction", "called", "raters", "score"), best, words=(1,)
        )
    )
    return True


def _between(ends: Sequence[float] | None, form: str) -> str:
    return "" if ends is None else f"{ends[0]:{form}} to {ends[1]:{form}}"


def masks_section(run: Path, section: Section) -> bool:
    """Stage 2: accepted and rejected pairs by check and by class, and pictures of the first pairs."""
    folder = run / "masks"
    if not (folder / "manifest.json").exists():
        section.sentences.append(_not_there("Stage 2", folder, "masks"))
        return True
    manifest = read_json(folder / "manifest.json")
    rejected, pairs = manifest["rejections"], manifest["pairs"]
    drawn = pairs + sum(rejected.values())
    section.sentences.append(
        f"{pairs:,} pairs of {manifest['resolution']} px were accepted, {pairs / max(1, drawn):.0%} of {drawn:,} drawn."
    )
    if fit := manifest.get("fit"):
        section.sentences.append(
            f"Mask fit, the IoU of a mask with what the judge marks on the image: {fit['mean']:.3f} in the mean, and"
            f" {GOOD_FIT:g} or more for {fit['good_share']:.0%} of the pairs."
        )
    fates = [("accepted", pairs), *sorted(rejected.items(), key=lambda item: -item[1])]
    rows = [(name, f"{count:,}", f"{count / max(1, drawn):.1%}") for name, count in fates]
    section.tables.append(Table("What became of the pairs that were drawn", ("check", "pairs", "share"), rows, (0,)))
    section.tables.append(_by_class(manifest))
    section.show_settings(folder)
    section.show(
        folder / "preview.png",
        "The first pairs: image with the mask's outline, shifted image or the units' votes, mask",
    )
    return True


def _by_class(manifest: dict[str, Any]) -> Table:
    accepted, rejected = manifest["accepted_by_class"], manifest["rejections_by_class"]
    checks = list(manifest["rejections"])
    fits = manifest.get("fit_by_class", {})
    counts = []
    for name in {*accepted, *rejected}:
        kept, lost = accepted.get(name, 0), rejected.get(name, {})
        counts.append((kept / max(1, kept + sum(lost.values())), name, kept, lost))
    counts.sort(key=lambda entry: (-entry[0], entry[1]))
    rows = [
        (
            name,
            f"{share:.0%}",
            f"{kept:,}",
            *([f"{fits[name]['sum'] / max(1, kept):.2f}" if name in fits else ""] if fits else []),
            *(f"{lost.get(check, 0):,}" for check in checks),
        )
        for share, name, kept, lost in counts[:CLASSES_SHOWN]
    ]
    more = f"; {len(counts) - CLASSES_SHOWN} more are in manifest.json" if len(counts) > CLASSES_SHOWN else ""
    head = ("class", "accepted", "pairs", *(["mask fit"] if fits else []), *checks)
    return Table(f"The same by class, {len(counts)} classes{more}", head, rows, folded=True)


def train_section(run: Path, section: Section) -> bool:
    """Stage 3: training curves and held-out pairs."""
    folder = run / "saliency"
    section.charts += read_charts(folder / "metrics.jsonl")
    if not (folder / "model.safetensors").exists():
        section.sentences.append(_not_there("Stage 3", folder, "train-saliency"))
    section.show_settings(folder)
    section.show(folder / "preview.png", "Held-out pairs: image, mask, and the model's map")
    return True


def student_section(run: Path, section: Section) -> bool:
    """The student: its rounds, curves and marked photos; only if its training was started."""
    return _self_training(run / "student", section, "The student", "train-student")


def adapt_section(run: Path, section: Section) -> bool:
    """Adaptation: its rounds, curves and marked photos; only if it was started."""
    return _self_training(run / "saliency-adapted", section, "Adaptation", "adapt")


def _self_training(folder: Path, section: Section, stage: str, verb: str) -> bool:
    if not folder.is_dir():
        return False
    section.sentences.append("Self-training on unlabelled photos goes beyond the paper and is measured apart from it.")
    section.charts += read_charts(folder / "metrics.jsonl")
    if not (folder / "model.safetensors").exists():
        section.sentences.append(_not_there(stage, folder, verb))
    if (folder / "rounds.json").exists():
        _show_rounds(folder, section)
    section.show_settings(folder)
    section.show(
        folder / "rounds.png",
        "The same held-out photos: the photo, what the first teacher marks, then each round's model",
    )
    section.show(folder / "preview.png", "Photos of the last round, each beside itself darkened outside its mask")
    return True


def _show_rounds(folder: Path, section: Section) -> None:
    """Adds a table with a line for each round, and a sentence that says which round was kept."""
    rounds = read_json(folder / "rounds.json")
    reasons = list(dict.fromkeys(reason for one in rounds for reason in one.get("left_out", {})))
    figures = [name for name in ROUND_FIGURES if any(name in one for one in rounds)]
    rows = [
        (
            str(one["round"]) if one["round"] else "first teacher",
            f"{one['resolution']} px",
            f"{one['photos_kept']:.1%}" if "photos_kept" in one else "",
            *(f"{one['left_out'].get(reason, 0):,}" if "left_out" in one else "" for reason in reasons),
            *(f"{one[name]:.3f}" if name in one else "" for name in figures),
        )
        for one in rounds
    ]
    head = ("round", "resolution", "photos kept", *reasons, *(ROUND_FIGURES[name] for name in figures))
    kept: tuple[int, ...] = ()
    if (folder / "model.safetensors").exists() and (folder / "config.json").exists():
        number = read_json(folder / "config.json")["about"]["round"]
        section.sentences.append(
            f"The model of round {number} was kept." if number else "The first teacher was kept: no round was better."
        )
        kept = tuple(index for index, one in enumerate(rounds) if one["round"] == number)
    caption = "The rounds: what each model learned from, and how it then marks held-out photos"
    section.tables.insert(0, Table(caption, head, rows, kept))


def evaluation_section(run: Path, section: Section) -> bool:
    """The figures, the curves, and the random, best and worst photos of each evaluation."""
    results = sorted((run / "evaluation").glob("*.json"))
    if not results:
        section.sentences.append(f"Nothing has been measured yet: {_command('evaluate', run)}.")
    if more := results[EVALUATIONS_SHOWN:]:
        section.sentences.append(f"Not shown here: {', '.join(str(path) for path in more)}.")
    for path in results[:EVALUATIONS_SHOWN]:
        try:
            result = read_json(path)
        except UserError as error:
            section.sentences.append(str(error))
            continue
        rows = table_rows(result)
        title = f"{result['dataset']['title']}, {result['dataset']['pairs']:,} photos"
        head = ("", "supervision", *(heading(key, name) for key, name in METRICS.items()))
        lines = [(f"{row.name} ({row.source})" if row.source else row.name, told(row), *cells(row)) for row in rows]
        section.tables.append(Table(title, head, lines, (0,), words=(1,)))
        if result["counting"] not in section.sentences:
            section.sentences.append(result["counting"])
        for kind, caption in (
            ("curves", "Curves"),
            ("random", "A random dozen"),
            ("best", "The best by IoU"),
            ("worst", "The worst by IoU"),
        ):
            what = "" if kind == "curves" else ": photo, ground-truth mask, saliency map"
            section.show(path.with_name(f"{path.stem}-{kind}.png"), f"{title}. {caption}{what}")
    return True


def predictions_section(run: Path, section: Section) -> bool:
    """Some of the marked photos."""
    folder = run / "predictions"
    for kind in ("overlay", "cutout", "map", "map16", "mask"):
        if (folder / kind).is_dir() and (found := search(folder / kind, IMAGE_SUFFIXES, recursive=True).files):
            for path in found[:PREDICTIONS_SHOWN]:
                section.show(path, f"{path.stem} ({kind})", wide=False)
            return True
    section.sentences.append(f"No photo has been marked yet: {_command('predict PHOTOS', run)}.")
    return True


def pages_section(run: Path, section: Section) -> bool:
    """Names the pages that other verbs have written into the run folder; only if there is one."""
    titles = {
        "dissect/dissect.html": "GAN Dissection",
        "eigen/eigen.html": "EigenGAN's dimensions",
        "sweep/*.md": "Sweep",
    }
    for pattern, title in titles.items():
        section.sentences += [f"{title}: {path}." for path in sorted(run.glob(pattern))]
    return bool(section.sentences)


def _not_there(stage: str, folder: Path, verb: str) -> str:
    command = _command(verb, folder.parent)
    if folder.is_dir():
        return f"{stage} has not finished: {command}, with the same settings, goes on where it stopped."
    return f"{stage} has not run yet: {command}."


def _command(verb: str, run: Path) -> str:
    return f"saliency-gan {verb} --run {shlex.quote(str(run))}"
