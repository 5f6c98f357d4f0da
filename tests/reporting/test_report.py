import base64
import html
import json
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from saliency_gan.config import ReportConfig
from saliency_gan.directions.criteria import CRITERIA
from saliency_gan.errors import UserError
from saliency_gan.pages.page import MAX_SIDE
from saliency_gan.reporting.report import report
from tests.reporting import fabricated

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tags with their attributes, text a tag, and whether every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


def page_of(run) -> tuple[str, Page, str]:
    text = report(ReportConfig(run=run)).read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    return text, page, re.sub(r"\s+", " ", " ".join(page.text))


def test_a_whole_run(tmp_path):
    text, page, shown = page_of(fabricated.whole(tmp_path / "my run"))
    assert "<h1><small>saliency-gan report</small>my run</h1>" in text
    for sentence in (
        "h_bg is direction 7 (lighter ground), sign +1, shift 6: it has the best score of 12 directions",
        "It turns the background bright.",
        "the right direction for 87.5% of 2,048 fresh pairs (RCA; 95 % interval 84.1% to 90.3%)",
        "3,000 pairs of 64 px were accepted, 50% of 6,000 drawn.",
        "sha256 abcdef012345",
        "beyond the paper",
        "2 people answered. A direction's score is the share",
    ):
        assert sentence in shown
    assert "has not" not in shown
    assert re.findall(r"saliency-gan (\S+) --run", shown) == ["train-gan"]
    captions = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert captions.count("Samples, step-000300") == 1
    assert len([caption for caption in captions if caption.startswith("Direction ")]) == 4
    assert len([caption for caption in captions if caption.endswith("(overlay)")]) == 12
    assert len(re.findall("<svg", text)) == 1 + 3 + 3 + 2 + 2  # one a quantity and stage


def test_tables(tmp_path):
    text, _, _ = page_of(fabricated.whole(tmp_path / "run"))
    rows = [
        [html.unescape(re.sub("<[^>]+>", "", cell)) for cell in re.findall(r"<t[hd][^>]*>.*?</t[hd]>", row)]
        for row in re.findall(r"<tr.*?</tr>", text, flags=re.S)
    ]
    assert ["7", "lighter ground", "+1", "6", "bright", "0.850", "0.900", "0.900", "0.900", "0.900"] in rows
    assert ["learned", "2 of 12", "0.62", "0.50 to 0.75", "7.5", "6.0 to 9.0", ""] in rows
    assert ["random", "2 of 12", "0.62", "", "7.5", "", "0.31"] in rows
    assert ["7", "lighter ground, light", "2", "0.50"] in rows
    assert ["3", fabricated.EVIL, "2", "0.50"] in rows
    assert not any("noise" in row for row in rows)
    assert ["accepted", "3,000", "50.0%"] in rows
    assert ["max_border", "2,000", "33.3%"] in rows
    assert ["bonsai", "97%", "2,900", "100", "0"] in rows
    assert ["watch", "0%", "0", "0", "500"] in rows
    figures = [f"{0.1 * number + 0.0123:.3f}" for number in range(9)]
    assert ["centre prior", "none, baseline", *figures] in rows
    assert ["HS (Yan)", "none", "", "", "", "", "", "", "0.508", "", ""] in rows
    assert ["K", "12"] in rows
    assert ["works", CRITERIA["works"]] in rows
    chosen = re.search(r'<tr class="strong">\s*<th scope="row">7</th>', text)
    assert chosen


def test_nothing_comes_from_outside_and_all_text_is_escaped(tmp_path):
    text, page, shown = page_of(fabricated.whole(tmp_path / "run <i>"))
    assert "script" not in {tag for tag, _ in page.tags}
    assert "b" not in {tag for tag, attributes in page.tags if "bold" in attributes.values()}
    assert "<b>bold" not in text
    assert fabricated.EVIL in shown
    assert "run <i>" in shown
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "object"}
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/jpeg;base64,"))
    assert "url(http" not in text
    assert "@import" not in text


def test_pictures_are_shrunk(tmp_path):
    run = fabricated.whole(tmp_path / "run")
    fabricated.picture(run / "discover" / "ranking.png", 1000, 4000)
    _, page, _ = page_of(run)
    image = next(a for tag, a in page.tags if tag == "img" and a["alt"].startswith("Along a row"))
    assert (int(image["width"]), int(image["height"])) == (MAX_SIDE, MAX_SIDE // 4)
    data = base64.b64decode(image["src"].partition(",")[2])
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (MAX_SIDE // 4, MAX_SIDE, 3)


def test_pages_of_other_verbs_are_named(tmp_path):
    (tmp_path / "dissect").mkdir()
    assert "Other pages" not in page_of(tmp_path)[2]
    (tmp_path / "dissect" / "dissect.html").write_text("a page")
    assert f"GAN Dissection: {tmp_path}/dissect/dissect.html." in page_of(tmp_path)[2]


def test_a_file_that_cannot_be_opened_costs_only_its_part(tmp_path, monkeypatch):
    def closed(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("saliency_gan.reporting.stages.read_charts", closed)
    _, _, shown = page_of(fabricated.whole(tmp_path / "run"))
    assert "A file of this part cannot be opened" in shown and "3,000 pairs of 64 px" in shown


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match="holds no stage of a run"):
        report(ReportConfig(run=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_an_empty_run_says_what_to_do(tmp_path):
    (tmp_path / "predictions").mkdir()
    _, page, shown = page_of(tmp_path)
    for sentence in (
        f"Stage 1 has not run yet: saliency-gan discover --run {tmp_path}.",
        f"Stage 2 has not run yet: saliency-gan masks --run {tmp_path}.",
        f"Stage 3 has not run yet: saliency-gan train-saliency --run {tmp_path}.",
        f"Nothing has been measured yet: saliency-gan evaluate --run {tmp_path}.",
        f"No photo has been marked yet: saliency-gan predict PHOTOS --run {tmp_path}.",
    ):
        assert sentence in shown
    assert "Adaptation" not in shown and "Student" not in shown
    assert "What people said" not in shown
    assert "img" not in {tag for tag, _ in page.tags}


@pytest.mark.parametrize(
    ("stage", "files", "sentence"),
    [
        ("discover", ["directions.json"], "Stage 1 has not finished: saliency-gan discover --run"),
        ("masks", ["manifest.json"], "Stage 2 has not finished: saliency-gan masks --run"),
        ("student", ["model.safetensors"], "The student has not finished: saliency-gan train-student --run"),
        ("student", ["rounds.json", "model.safetensors"], "The student has not finished"),
        ("saliency", ["model.safetensors"], "Stage 3 has not finished: saliency-gan train-saliency --run"),
    ],
)
def test_a_stage_in_between(tmp_path, stage, files, sentence):
    run = fabricated.whole(tmp_path / "run")
    for name in files:
        (run / stage / name).unlink()
    text, _, shown = page_of(run)
    assert sentence in shown
    assert "<svg" in text


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("discover/directions.json", "{", "directions.json cannot be read as JSON"),
        ("discover/directions.json", "[]", "A file of this part is not as this version writes it"),
        ("masks/manifest.json", '{"pairs": 3}', "A file of this part is not as this version writes it"),
        ("student/rounds.json", '[{"round": 0}]', "A file of this part is not as this version writes it"),
        ("masks/preview.png", "", "preview.png cannot be read as an image"),
        ("evaluation/samples.json", '{"model": null}', "A file of this part is not as this version writes it"),
        ("saliency/config.yaml", "a: [", "config.yaml cannot be read as YAML"),
        ("predictions/overlay/photo-03.jpg", "x", "photo-03.jpg cannot be read as an image"),
    ],
)
def test_a_damaged_file_costs_only_its_part(tmp_path, name, content, sentence):
    run = fabricated.whole(tmp_path / "run")
    (run / name).write_text(content)
    _, _, shown = page_of(run)
    assert sentence in shown
    assert shown.count("not as this version") + shown.count("cannot be read") == 1


def test_numbers_and_nesting_beyond_all_bounds_cost_only_their_part(tmp_path):
    run = fabricated.whole(tmp_path / "run")
    with open(run / "saliency" / "metrics.jsonl", "a") as file:
        file.write(f'{{"step": 700, "loss": 1{"0" * 400}}}\n' + "[" * 100_000 + "\n")
    mos = json.loads((run / "rating" / "mos.json").read_text())
    mos["kinds"]["learned"]["mos_interval"] = []
    (run / "rating" / "mos.json").write_text(json.dumps(mos))
    _, _, shown = page_of(run)
    assert shown.count("A file of this part is not as this version writes it") == 1
    assert "Held-out pairs: image, mask, and the model's map" in shown


def test_evaluations_that_are_damaged_or_too_many_are_named(tmp_path):
    for number in range(8):
        fabricated.evaluation(tmp_path, f"set{number}")
    (tmp_path / "evaluation" / "set0.json").write_text("{")
    _, _, shown = page_of(tmp_path)
    assert "set0.json cannot be read as JSON" in shown
    assert all(f"set{number} " in shown for number in range(1, 6)) and "set6 " not in shown
    assert re.search(r"Not shown here: \S*set6\.json, \S*set7\.json\.", shown)


@pytest.mark.parametrize("kind", ["map16", "mask"])
def test_predictions_of_any_kind_are_shown(tmp_path, kind):
    fabricated.saliency(tmp_path)
    (tmp_path / "predictions" / "overlay").mkdir(parents=True)
    (tmp_path / "predictions" / "overlay" / "film.mp4").touch()
    fabricated.picture(tmp_path / "predictions" / kind / "cat.png", 9, 9)
    _, _, shown = page_of(tmp_path)
    assert f"cat ({kind})" in shown and "No photo has been marked" not in shown


def test_the_rounds_of_self_training(tmp_path):
    run = fabricated.whole(tmp_path / "run")
    text, page, shown = page_of(run)
    start = text.index('id="student"')
    part = text[start : text.index('id="adaptation"', start)]
    table = [
        [html.unescape(re.sub("<[^>]+>", "", cell)) for cell in re.findall(r"<t[hd][^>]*>.*?</t[hd]>", row)]
        for row in re.findall(r"<tr.*?</tr>", part, flags=re.S)
    ]
    head = ["round", "resolution", "photos kept", "unsure", fabricated.EVIL, "views differ", "agreement", "area", "IoU"]
    assert table[:4] == [
        head,
        ["first teacher", "64 px", "", "", "", "", "0.750", "0.200", "0.600"],
        ["1", "160 px", "87.5%", "1,200", "5", "0", "0.800", "0.200", "0.600"],
        ["2", "224 px", "91.0%", "0", "0", "18", "0.750", "0.200", "0.600"],
    ]
    assert re.findall(r'<tr class="strong">\s*<th scope="row">(\d)</th>', part) == ["1"]
    assert "The model of round 1 was kept." in shown
    captions = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert (
        sum(one.startswith("The same held-out photos: the photo, what the first teacher marks") for one in captions)
        == 2
    )
    assert sum(one.startswith("Photos of the last round") for one in captions) == 2
    (run / "student" / "config.json").write_text('{"about": {"round": 0}}')
    assert "The first teacher was kept: no round was better." in page_of(run)[2]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"chosen_by": "user"}, "a person chose it"),
        (
            {"index": None, "method": "optimise"},
            "h_bg is an optimised direction, sign +1, shift 6: it was found by gradient",
        ),
    ],
)
def test_who_chose_the_direction(tmp_path, change, sentence):
    run = fabricated.whole(tmp_path / "run")
    path = run / "discover" / "directions.json"
    found = json.loads(path.read_text())
    found["background"] |= change
    found["rca"] = {}
    path.write_text(json.dumps(found))
    _, _, shown = page_of(run)
    assert sentence in shown
    assert "was not measured" in shown


def test_the_page_repeats(tmp_path):
    run = fabricated.whole(tmp_path / "run")
    first = report(ReportConfig(run=run)).read_bytes()
    other = report(ReportConfig(run=run, output=tmp_path / "elsewhere" / "page.html"))
    assert other == tmp_path / "elsewhere" / "page.html"
    assert other.read_bytes() == first


def test_no_run_folder(tmp_path):
    with pytest.raises(UserError, match=r"no run folder .*nowhere"):
        report(ReportConfig(run=tmp_path / "nowhere"))
