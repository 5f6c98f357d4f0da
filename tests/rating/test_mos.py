import json
from pathlib import Path

import pytest

from saliency_gan.cli.main import main
from saliency_gan.config import MosConfig
from saliency_gan.directions.annotation import rename
from saliency_gan.errors import UserError
from saliency_gan.rating.answers import Answer, save_answers
from saliency_gan.rating.mos import mos
from saliency_gan.rating.study import digest_of
from saliency_gan.results.directions import load_directions

BOTH, FIRST, SECOND, NEITHER = (True, True), (True, False), (False, True), (False, False)

ANN = {"learned-0": BOTH, "learned-1": BOTH, "learned-4": FIRST, "random-2": NEITHER, "random-5": FIRST}
BOB = {"learned-0": BOTH, "learned-1": SECOND, "learned-4": BOTH, "random-2": NEITHER, "coordinate-3": BOTH}
CID = {"learned-0": BOTH, "learned-1": NEITHER}


def write(run: Path, rater: str, answers: dict[str, tuple[bool, bool]], seconds: int = 10, name: str = "") -> None:
    times = [
        f"2025-03-01T10:{number * seconds // 60:02d}:{number * seconds % 60:02d}+00:00"
        for number in range(len(answers))
    ]
    given = {key: Answer(*yes, name, time) for (key, yes), time in zip(answers.items(), times, strict=True)}
    save_answers(run / "rating" / "raters", rater, given)


def write_study(run: Path) -> None:
    directions = load_directions(run / "discover")
    columns = {"learned": 6, "random": 6, "coordinate": 6}
    study = {"A_sha256": digest_of(directions.matrix), "generator": directions.generator, "columns": columns}
    (run / "rating").mkdir(exist_ok=True)
    (run / "rating" / "study.json").write_text(json.dumps(study))


@pytest.fixture
def rated(run: Path) -> Path:
    write_study(run)
    write(run, "ann", ANN)
    write(run, "bob", BOB, seconds=25, name="size")
    write(run, "cid", CID)
    return run


def test_every_figure_by_hand(rated: Path) -> None:
    result = mos(MosConfig(run=rated))
    learned, random, coordinate = (result["kinds"][kind] for kind in ("learned", "random", "coordinate"))
    # interpretable: direction 0 by 3 of 3, direction 1 by 1 of 3, direction 4 by 1 of 2
    assert learned["mos"] == pytest.approx((1 + 1 / 3 + 1 / 2) / 3)
    assert learned["absolute"] == pytest.approx(6 * (1 + 1 / 3 + 1 / 2) / 3)
    assert (learned["rated"], learned["columns"], learned["opinions"], learned["majority"]) == (3, 6, 8, 1)
    assert learned["consistent"] == pytest.approx((1 + 1 / 3 + 1) / 3)
    assert learned["one_factor"] == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)
    # pairs: all 3 agree; 1 of 3 agree; 0 of 1; yes are 5 of 8 opinions
    observed, chance = (1 + 1 / 3 + 0) / 3, (25 + 9) / 64
    assert learned["percent_agreement"] == pytest.approx(observed)
    assert learned["kappa"] == pytest.approx((observed - chance) / (1 - chance))
    # every resampled mean is one of the 3^3 of the scores 1, 1/3 and 1/2; their extremes have probability 1/27
    assert learned["mos_interval"] == pytest.approx((1 / 3, 1))
    assert learned["absolute_interval"] == pytest.approx((2, 6))
    assert (random["mos"], random["absolute"], random["consistent"], random["majority"]) == (0, 0, 0.5, 0)
    assert (random["shared"], random["percent_agreement"], random["kappa"]) == (1, 1, None)
    assert random["mos_interval"] == (0, 0)
    assert (coordinate["mos"], coordinate["absolute"], coordinate["mos_interval"]) == (1, 6, None)
    assert (coordinate["percent_agreement"], coordinate["kappa"]) == (None, None)
    # all: the learned ones and random 2, of which both said no
    observed, chance = (1 + 1 / 3 + 0 + 1) / 4, (25 + 25) / 100
    assert result["agreement"]["shared"] == 4
    assert result["agreement"]["percent_agreement"] == pytest.approx(observed)
    assert result["agreement"]["kappa"] == pytest.approx((observed - chance) / (1 - chance))


def test_every_direction_and_every_rater_is_listed(rated: Path) -> None:
    rename(rated / "discover", 4, "pose")
    result = mos(MosConfig(run=rated))
    listed = [(one["kind"], one["index"], one["raters"], one["mos"]) for one in result["directions"]]
    assert listed == [
        ("learned", 0, 3, 1), ("learned", 4, 2, 0.5), ("learned", 1, 3, pytest.approx(1 / 3)),
        ("random", 2, 2, 0), ("random", 5, 1, 0), ("coordinate", 3, 1, 1),
    ]  # fmt: skip
    assert [one["name"] for one in result["directions"]] == ["", "pose", "", "", "", ""]
    assert result["directions"][1]["called"] == ["size"] and result["directions"][4]["called"] == []
    assert [(one["name"], one["directions"], one["median_seconds"]) for one in result["raters"]] == [
        ("ann", 5, 10), ("bob", 5, 25), ("cid", 2, 10)
    ]  # fmt: skip
    assert (result["raters"][0]["first"], result["raters"][0]["last"]) == (
        "2025-03-01T10:00:00+00:00", "2025-03-01T10:00:40+00:00"
    )  # fmt: skip


def test_the_json_is_what_is_returned_and_the_tables_show_it(rated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = mos(MosConfig(run=rated))
    written = json.loads((rated / "rating" / "mos.json").read_text())
    assert written == json.loads(json.dumps(result))
    assert main(["mos", "--run", str(rated)]) == 0
    output = capsys.readouterr().out
    assert "0.61" in output and "3 of 6" in output and "ann" in output and "learned 4" in output


def test_intervals_are_seeded_and_follow_the_confidence(rated: Path) -> None:
    def interval(**settings: float) -> list[float]:
        return mos(MosConfig(run=rated, **settings))["kinds"]["learned"]["mos_interval"]

    assert interval() == interval()
    low, high = interval(confidence=0.5)
    assert 1 / 3 < low < high < 1


def test_the_confidence_stands_in_the_table_as_it_was_given(rated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mos(MosConfig(run=rated, confidence=0.995))
    assert "99.5 % interval" in capsys.readouterr().out


def test_one_rater_has_no_agreement(run: Path) -> None:
    write_study(run)
    write(run, "ann", {"learned-2": BOTH})
    result = mos(MosConfig(run=run))
    assert result["kinds"]["learned"]["mos"] == 1 and list(result["kinds"]) == ["learned"]
    assert result["agreement"] == {"shared": 0, "percent_agreement": None, "kappa": None}
    assert result["raters"][0]["median_seconds"] is None


def test_without_ratings_there_is_no_mos(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mos", "--run", str(run)]) == 2
    assert "Nobody has rated" in capsys.readouterr().err
    write_study(run)
    save_answers(run / "rating" / "raters", "ann", {})
    with pytest.raises(UserError, match="Nobody has rated"):
        mos(MosConfig(run=run))
    assert not (run / "rating" / "mos.json").exists()


def test_answers_about_other_directions_are_refused(rated: Path) -> None:
    path = rated / "rating" / "study.json"
    study = json.loads(path.read_text())
    path.write_text(json.dumps(study | {"A_sha256": "0" * 64}))
    with pytest.raises(UserError, match="about other directions"):
        mos(MosConfig(run=rated))
    path.unlink()
    with pytest.raises(UserError, match=r"study\.json does not exist"):
        mos(MosConfig(run=rated))


TEXT = {"columns": {"learned": "6", "random": 2, "coordinate": 2}}


@pytest.mark.parametrize("change", [{"columns": None}, {"columns": {"learned": 6}}, {"generator": ...}, TEXT])
def test_a_damaged_study_is_refused(rated: Path, change: dict[str, object]) -> None:
    path = rated / "rating" / "study.json"
    study = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in study.items() if value is not ...}))
    with pytest.raises(UserError, match="write it again"):
        mos(MosConfig(run=rated))


@pytest.mark.parametrize("key", ["learned-6", "learned--1", "machine-0", "learned", "", "learned-x", "random-²"])
def test_answers_about_no_direction_are_refused(rated: Path, key: str) -> None:
    write(rated, "eve", {key: BOTH})
    with pytest.raises(UserError, match="eve answered about"):
        mos(MosConfig(run=rated))


@pytest.mark.parametrize("settings", [{"confidence": 1.0}, {"confidence": 0.0}, {"resamples": 0}])
def test_settings_out_of_range_are_refused(rated: Path, settings: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(settings))} is"):
        mos(MosConfig(run=rated, **settings))
