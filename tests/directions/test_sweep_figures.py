import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.axes import Axes

from saliency_gan.config import DiscoverConfig, SweepConfig, SweepPoint, sweep_points
from saliency_gan.directions.rca import wilson_interval
from saliency_gan.directions.sweep_figures import SweepResult, figures_of, markdown_table, picture


def result_of(point: SweepPoint, correct: int, samples: int = 400, shift_mae: float = 1.0) -> SweepResult:
    low, high = wilson_interval(correct, samples)
    rca = {"accuracy": correct / samples, "low": low, "high": high, "samples": samples, "shift_mae": shift_mae}
    return SweepResult(point, rca, [(5, 0.1), (10, correct / samples)])


@pytest.fixture
def results():
    config = SweepConfig(run=Path("runs/x"), over=("discover.K=16,32",), seeds=(0, 1, 2))
    base = DiscoverConfig(generator="sngan-mnist", reconstructor="lenet", steps=10)
    correct, errors = (300, 320, 340, 200, 200, 230), (1.0, 1.5, 2.0, 2.5, 2.5, 2.5)
    points = sweep_points(config, base)
    return [result_of(*one) for one in zip(points, correct, [400] * 6, errors, strict=True)]


def test_means_and_spreads_are_those_of_the_seeds(results):
    first, second = figures_of(results)
    assert (first.values, second.values) == ({"K": 16}, {"K": 32})
    assert first.accuracy == pytest.approx((0.75 + 0.8 + 0.85) / 3)
    assert first.spread == pytest.approx(0.05)  # squares of -0.05, 0, 0.05 over n - 1 = 2
    assert second.spread == pytest.approx(np.std([0.5, 0.5, 0.575], ddof=1))
    assert (first.shift_mae, second.shift_mae) == (1.5, 2.5)
    assert (first.low, first.high) == wilson_interval(960, 1200)
    assert (first.published.rca, second.published.rca) == (0.98, 0.95)


def test_a_single_seed_has_no_spread(results):
    (row,) = figures_of(results[:1])
    assert row.spread is None and row.accuracy == 0.75
    assert "| 16 | 1 | 0.750 |  | " in markdown_table("t", [row])


def test_the_table_holds_every_row_beside_the_published_figure(results):
    lines = markdown_table("RCA over K", figures_of(results), ["Failed: x: why"]).splitlines()
    assert lines[:2] == ["# RCA over K", ""]
    assert lines[2] == "| K | seeds | RCA | spread | 95 % interval | shift MAE | published RCA | difference |"
    assert lines[4].startswith("| 16 | 3 | 0.800 | 0.050 | 0.776 to 0.822 | 1.50 | 0.98 | -0.180 |")
    assert lines[5].startswith("| 32 | 3 | 0.525 |") and lines[5].endswith("| 0.95 | -0.425 |")
    text = "\n".join(lines)
    assert "Settings: generator sngan-mnist, lambda 0.25, deformator orthonormal, reconstructor lenet, steps 10" in text
    assert "Voynov & Babenko, ICML 2020, ablation of K" in text and lines[-1] == "Failed: x: why"


def test_without_published_figures_their_columns_are_left_out():
    config = SweepConfig(over=("discover.deformator=random,unit", "discover.lambda=0.5,2"))
    points = sweep_points(config, DiscoverConfig())
    text = markdown_table("t", figures_of([result_of(point, 100) for point in points]))
    assert text.splitlines()[2] == "| deformator | lambda | seeds | RCA | spread | 95 % interval | shift MAE |"
    assert "| random | 0.5 | 1 | 0.250 |" in text and "| unit | 2 | 1 | 0.250 |" in text
    assert "published" not in text


def test_rows_are_plain_json_with_runs_and_curves(results):
    row = json.loads(json.dumps(figures_of(results)[0].to_json()))
    assert (row["values"], row["published"]["rca"], row["settings"]["K"]) == ({"K": "16"}, 0.98, 16)
    assert [run["seed"] for run in row["runs"]] == [0, 1, 2]
    assert row["runs"][1]["curve"] == [[5, 0.1], [10, 0.8]]
    assert row["runs"][1]["folder"] == "K-16_lambda-0.25_deformator-orthonormal_seed-1"


def test_the_picture_shows_every_seed_the_mean_and_the_published_figure(results, monkeypatch):
    drawn = []
    plot = Axes.plot

    def recorded(self, *arguments, **settings):
        drawn.append(arguments[:2])
        return plot(self, *arguments, **settings)

    monkeypatch.setattr(Axes, "plot", recorded)
    image = cv2.imdecode(np.frombuffer(picture(figures_of(results)), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape[1] > image.shape[0] > 400 and image.std() > 5
    assert ([0, 0, 0], [0.75, 0.8, 0.85]) in drawn
    assert ([-0.2, 0.2], [pytest.approx(0.8)] * 2) in drawn
    assert (1, 0.95) in drawn
    assert drawn.count(((5, 10), (0.1, 0.5))) == 2
