"""The verb `evaluate`: measures a saliency model, or maps that another program made, against ground-truth masks."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from saliency_gan.config import EvaluateConfig
from saliency_gan.errors import UserError
from saliency_gan.evaluation.baselines import BASELINES
from saliency_gan.evaluation.benchmarks import BENCHMARKS, Dataset, find_dataset, maps_are_of_0_and_1
from saliency_gan.evaluation.figures import curves_picture, sheet
from saliency_gan.evaluation.measuring import Example, MapMaker, Measured, measure, read_example
from saliency_gan.evaluation.metrics import Map
from saliency_gan.evaluation.published import published_rows
from saliency_gan.evaluation.tables import COUNTING, TABLE_START, markdown_table, rich_table, table_rows
from saliency_gan.images.writing import write_image
from saliency_gan.runs.random_streams import Stream, random_stream
from saliency_gan.storage.files import LONGEST_NAME, write_bytes, write_json, write_text
from saliency_gan.storage.locks import working_in

EXAMPLES = 12
"""Number of random, worst and best pairs that are shown."""


def evaluate(config: EvaluateConfig) -> Path:
    """Measures, prints the table, and writes figures, table and pictures.

    Writes NAME.json (flat figures under "model" and under each name in "compared" and "baselines"), NAME.md,
    NAME-curves.png, NAME-random.png, NAME-worst.png and NAME-best.png (by the model's IoU, then MAE).

    Returns:
        The JSON file: `config.output`, or NAME.json in `config.folder`. NAME is the benchmark or the masks' folder.

    Raises:
        UserError: If there is nothing to measure on, or a model or a benchmark is not usable.
    """
    config.check()
    dataset = find_dataset(config)
    for sentence in dataset.unmatched:
        print(sentence)
    makers = map_makers(config, dataset)
    has_photos = dataset.pairs[0].photo is not None
    if config.baselines and not has_photos:
        print("The baselines need the photos and are left out: give them with --images DIR.")
    output = config.output or config.folder / f"{_file_name(config, dataset)}.json"
    table = output.with_suffix(".md")
    if table.exists() and (not table.is_file() or TABLE_START.encode() not in table.read_bytes()):
        raise UserError(f"{table} is no table of evaluate: choose another --output, or move it away.")
    with working_in(output.parent, "--output" if config.output else "--run"):
        measured = measure(dataset, makers, config.baselines and has_photos, config.batch, config.workers)
        if measured is not None:  # the main process of the job has everything
            _write(output, dataset, measured, makers, config.seed)
    return output


def map_makers(config: EvaluateConfig, dataset: Dataset) -> dict[str, MapMaker]:
    """Returns name in tables -> function that makes the maps; the first one is "the model".

    These are the finished maps if they are given, else the weights if they are given, else the run's models (the last
    one first: adapted, student, U-Net on generated pairs), else the bundled model.

    Raises:
        UserError: If a model is not usable or two of them have the same name.
    """
    makers: dict[str, MapMaker] = {}
    if config.maps is not None:
        white = 1 if maps_are_of_0_and_1(dataset.pairs) else 255
        makers[f"maps {config.maps.name}"] = lambda examples: [_finished_map(example, white) for example in examples]
    named = [(title, found.path) for title, found in config.models.items()]
    named += [_compared(text) for text in config.compare if (text, None) not in named]
    for name, path in named:
        if name in makers or name in BASELINES:
            raise UserError(
                f"Two of what is measured are called {name!r}: give each a name of its own, as in --compare NAME=PATH."
            )
        makers[name] = _load_maker(path, config)
    return makers


def _write(output: Path, dataset: Dataset, measured: Measured, makers: Mapping[str, MapMaker], seed: int) -> None:
    """Prints the table and writes figures, table and pictures."""
    for sentence in measured.skipped:
        print(f"left out: {sentence}")
    title = BENCHMARKS[dataset.benchmark].title if dataset.benchmark else dataset.name
    result = _result(dataset, measured, tuple(makers), title)
    rows = table_rows(result)
    heading = f"{title}, {len(measured.pairs):,} photos"
    write_json(output, result)
    notes = [*dataset.unmatched, *(f"Left out: {sentence}" for sentence in measured.skipped)]
    write_text(output.with_suffix(".md"), markdown_table(heading, rows, notes))
    curves = {name: metrics.curves() for name, metrics in measured.metrics.items()}
    write_bytes(output.with_name(f"{output.stem}-curves.png"), curves_picture(heading, curves))
    _write_examples(output, measured, next(iter(makers.items())), seed)
    Console().print(rich_table(heading, rows))
    print(f"figures written to {output}")


def _result(dataset: Dataset, measured: Measured, makers: Sequence[str], title: str) -> dict[str, Any]:
    figures = {name: metrics.compute() for name, metrics in measured.metrics.items()}
    return {
        "dataset": {
            "name": dataset.name,
            "title": title,
            "pairs": len(measured.pairs),
            "skipped": list(measured.skipped),
        },
        "model_name": makers[0],
        "model": figures[makers[0]],
        "compared": {name: figures[name] for name in makers[1:]},
        "baselines": {name: figures[name] for name in BASELINES if name in figures},
        "published": [asdict(row) for row in published_rows(dataset.benchmark)],
        "counting": COUNTING,
    }


def _write_examples(output: Path, measured: Measured, model: tuple[str, MapMaker], seed: int) -> None:
    name, maker = model
    scores = measured.metrics[name].images
    order = sorted(range(len(scores)), key=lambda index: (scores[index].iou, -scores[index].mae))
    drawn = torch.randperm(len(order), generator=random_stream(seed, Stream.EXAMPLES)).tolist()
    sheets = {"random": drawn[:EXAMPLES], "worst": order[:EXAMPLES], "best": order[::-1][:EXAMPLES]}
    for kind, chosen in sheets.items():
        examples = [read_example(measured.pairs[index]) for index in chosen]
        captions = [
            f"{example.pair.name}  IoU {scores[index].iou:.2f}" for example, index in zip(examples, chosen, strict=True)
        ]
        write_image(output.with_name(f"{output.stem}-{kind}.png"), sheet(examples, maker(examples), captions))


def _compared(text: str) -> tuple[str, Path | None]:
    if text == "bundled":
        return text, None
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise UserError(
            f"--compare {text} should be `bundled` or NAME=PATH, PATH being a model.safetensors or its folder."
        )
    return name, Path(path)


def _load_maker(path: Path | None, config: EvaluateConfig) -> MapMaker:
    from saliency_gan.saliency.predictor import load_saliency_model

    predictor = load_saliency_model(path, config.device)

    def predict(examples: Sequence[Example]) -> list[Map]:
        photos = [example.photo for example in examples if example.photo is not None]
        if len(photos) != len(examples):
            raise UserError("A model needs photos: give them with --images DIR.")
        return list(predictor.predict_batch(photos))

    return predict


def _finished_map(example: Example, white: int) -> Map:
    assert example.map is not None
    return example.map * np.uint8(255 // white)


def _file_name(config: EvaluateConfig, dataset: Dataset) -> str:
    name = dataset.name if config.maps is None else f"{dataset.name}-{config.maps.name}"
    return os.fsencode(name)[:LONGEST_NAME].decode(errors="ignore")
