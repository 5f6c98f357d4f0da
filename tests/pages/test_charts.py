import json
import re
import xml.etree.ElementTree as ET

import pytest

from saliency_gan.pages.charts import COLOURS, POINTS, draw_chart, read_charts, thin


def write(path, *lines):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return path


def test_one_chart_a_quantity(tmp_path):
    path = write(
        tmp_path / "metrics.jsonl",
        {"step": 10, "loss": 1.0, "learning_rate": 0.1, "images_per_second": 5.0},
        {"step": 20, "loss": 0.5, "validation_iou": 0.4, "photos_iou": 0.3, "photos_kept": 12},
        {"step": 30, "loss": 0.4, "validation_iou": 0.5, "photos_iou": 0.4, "photos_kept": 13},
    )
    charts = {chart.title: chart.legend for chart in read_charts(path)}
    assert charts == {
        "loss": (("loss", COLOURS[0]),),
        "iou": (("validation iou", COLOURS[0]), ("photos iou", COLOURS[1])),
        "photos kept": (("photos kept", COLOURS[0]),),
    }


def test_lines_and_values_that_are_no_numbers_are_left_out(tmp_path):
    path = write(
        tmp_path / "metrics.jsonl",
        {"step": 1, "loss": 1.0, "bad": float("nan"), "worse": "text"},
        "[1, 2]",
        {"loss": 3.0},
        '{"step": 2, "lo',
    )
    assert [chart.title for chart in read_charts(path)] == ["loss"]


@pytest.mark.parametrize("content", [None, "", "\n", "no json at all"])
def test_nothing_to_draw(tmp_path, content):
    path = tmp_path / "metrics.jsonl"
    if content is not None:
        path.write_text(content)
    assert read_charts(path) == []


def test_the_svg_takes_the_pages_colours_and_repeats():
    curves = {"a": [(0, 0.0), (10, 1.0)], "b": [(0, 0.5)]}
    chart = draw_chart("a_$title", curves)
    assert chart.title == "a $title"
    ET.fromstring(chart.svg)
    assert "currentColor" in chart.svg
    assert set(re.findall(r"#[0-9a-f]{6}", chart.svg)) <= {COLOURS[0], COLOURS[1], "#000000"}
    assert chart == draw_chart("a_$title", curves)
    assert "http" not in chart.svg.replace("http://www.w3.org", "")


def test_thin_averages_neighbours():
    curve = [(float(step), 2.0 * step) for step in range(POINTS * 2)]
    thinned = thin(curve)
    assert len(thinned) == POINTS
    assert thinned[0] == (0.5, 1.0)
    assert thinned[-1] == (POINTS * 2 - 1.5, POINTS * 4 - 3.0)
    assert thin(curve[:5]) == curve[:5]
    assert len(thin(curve[:-1])) <= POINTS
