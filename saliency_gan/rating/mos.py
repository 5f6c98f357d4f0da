"""`mos`: counts what people answered on the page of `rate`. The only input is the opinions of people."""

import re
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from saliency_gan.config import MosConfig
from saliency_gan.config.rate import KINDS
from saliency_gan.errors import UserError
from saliency_gan.rating.agreement import (
    Votes,
    bootstrap_interval,
    fleiss_kappa,
    majority,
    mean_opinion,
    percent_agreement,
)
from saliency_gan.rating.answers import Answer, load_raters
from saliency_gan.rating.study import check_study
from saliency_gan.rating.tables import direction_table, kind_table, rater_table
from saliency_gan.results.directions import load_directions
from saliency_gan.runs.random_streams import Stream, random_stream
from saliency_gan.storage.files import read_json, write_json

Opinions = dict[str, list[Answer]]
"""Direction id -> the raters' answers."""


def mos(config: MosConfig) -> dict[str, Any]:
    """Measures MOS and absolute MOS of every kind of direction, with intervals, and the raters' agreement.

    A direction's score is the share of its raters that said yes to both questions. MOS is the mean score of a kind of
    direction. Absolute MOS is MOS times the number of all directions of the kind, rated or not, as in the published
    tables.

    Returns:
        The content of `run/rating/mos.json`.

    Raises:
        UserError: If nobody has rated anything, the answers are damaged or about other directions than the run's, or a
            setting is out of range.
    """
    config.check()
    folder = config.run / "rating"
    raters = load_raters(folder / "raters")
    if not raters:
        raise UserError(
            f"Nobody has rated a direction in {config.run} yet: saliency-gan rate --run {config.run} opens the page on"
            " which people do."
        )
    study, names = _study(config.run)
    opinions = _by_direction(raters, study["columns"])
    everything = [answers for _, answers in sorted(opinions.items())]
    result = {
        "generator": study["generator"],
        "A_sha256": study["A_sha256"],
        "raters": [_rater(rater, list(answers.values())) for rater, answers in raters.items()],
        "kinds": {
            kind: _kind(config, number, study["columns"][kind], answers)
            for number, kind in enumerate(KINDS)
            if (answers := [found for key, found in sorted(opinions.items()) if key.startswith(kind)])
        },
        "agreement": _agreement(everything),
        "directions": [_direction(key, answers, names) for key, answers in opinions.items()],
        "confidence": config.confidence,
        "resamples": config.resamples,
        "seed": config.seed,
    }
    result["directions"].sort(key=lambda one: (KINDS.index(one["kind"]), -one["mos"], one["index"]))
    write_json(folder / "mos.json", result)
    console = Console()
    for table in (direction_table(result), rater_table(result), kind_table(result)):
        console.print(table)
    print(f"written to {folder / 'mos.json'}")
    return result


def _study(run: Path) -> tuple[dict[str, Any], dict[int, str]]:
    """The content of study.json, and the names of the run's directions; refuses answers about other directions."""
    path = run / "rating" / "study.json"
    study = read_json(path)
    names = {}
    if (run / "discover").is_dir():
        directions = load_directions(run / "discover")
        check_study(study, directions.matrix, path)
        names = directions.names
    columns = study.get("columns") if isinstance(study, dict) else None
    if (
        not isinstance(columns, dict)
        or not {"A_sha256", "generator"} <= study.keys()
        or set(columns) != set(KINDS)
        or not all(type(count) is int and count >= 0 for count in columns.values())
    ):
        raise UserError(
            f"{path} is not as the page's server writes it: start saliency-gan rate once to write it again."
        )
    return study, names


def _by_direction(raters: dict[str, dict[str, Answer]], columns: dict[str, int]) -> Opinions:
    opinions: Opinions = {}
    for rater, answers in raters.items():
        for key, answer in answers.items():
            kind, _, index = key.rpartition("-")
            if kind not in columns or not re.fullmatch("[0-9]{1,9}", index) or int(index) >= columns[kind]:
                raise UserError(f"{rater} answered about {key!r}, which is no direction of this run: repair the file.")
            opinions.setdefault(key, []).append(answer)
    return opinions


def _rater(rater: str, answers: Sequence[Answer]) -> dict[str, Any]:
    times = sorted(datetime.fromisoformat(answer.time) for answer in answers)
    pauses = [(after - before).total_seconds() for before, after in pairwise(times)]
    return {
        "name": rater,
        "directions": len(answers),
        "first": times[0].isoformat(),
        "last": times[-1].isoformat(),
        "median_seconds": round(median(pauses), 1) if pauses else None,
    }


def _kind(config: MosConfig, number: int, columns: int, answers: Sequence[list[Answer]]) -> dict[str, Any]:
    votes = _votes(answers, "interpretable")
    random = random_stream(config.seed, Stream.OPINIONS, number)
    interval = bootstrap_interval(votes, config.confidence, config.resamples, random)
    score = mean_opinion(votes)
    return {
        "rated": len(answers),
        "columns": columns,
        "opinions": sum(raters for _, raters in votes),
        "consistent": mean_opinion(_votes(answers, "consistent")),
        "one_factor": mean_opinion(_votes(answers, "one_factor")),
        "mos": score,
        "mos_interval": interval,
        "absolute": score * columns,
        "absolute_interval": interval and tuple(end * columns for end in interval),
        "majority": majority(votes),
        **_agreement(answers),
    }


def _agreement(answers: Sequence[list[Answer]]) -> dict[str, Any]:
    votes = _votes(answers, "interpretable")
    return {
        "shared": sum(raters > 1 for _, raters in votes),
        "percent_agreement": percent_agreement(votes),
        "kappa": fleiss_kappa(votes),
    }


def _direction(key: str, answers: Sequence[Answer], names: dict[int, str]) -> dict[str, Any]:
    kind, _, index = key.rpartition("-")
    return {
        "kind": kind,
        "index": int(index),
        "name": names.get(int(index), "") if kind == "learned" else "",
        "called": sorted({answer.name for answer in answers if answer.name}),
        "raters": len(answers),
        **{name: mean_opinion(_votes([answers], name)) for name in ("consistent", "one_factor")},
        "mos": mean_opinion(_votes([answers], "interpretable")),
    }


def _votes(answers: Sequence[Sequence[Answer]], question: str) -> Votes:
    """For every direction, how many raters said yes to `question`, and how many answered it."""
    return [(sum(getattr(answer, question) for answer in given), len(given)) for given in answers]
