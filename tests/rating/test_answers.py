import json
from pathlib import Path

import pytest

from saliency_gan.errors import UserError
from saliency_gan.rating.answers import Answer, clean_rater, load_answers, load_raters, now, save_answers

ANSWER = Answer(True, False, "pose", "2025-03-01T10:00:00.000+00:00")


def test_answers_come_back_as_they_were_saved(tmp_path: Path) -> None:
    answers = {"learned-3": ANSWER, "random-0": Answer(True, True, "", now())}
    save_answers(tmp_path, "ann", answers)
    assert load_answers(tmp_path, "ann") == answers
    assert list(load_answers(tmp_path, "ann")) == list(answers)
    assert load_answers(tmp_path, "bob") == {}
    assert [path.name for path in tmp_path.iterdir()] == ["ann.json"], "nothing half written stays"


def test_all_raters_that_answered_are_found(tmp_path: Path) -> None:
    assert load_raters(tmp_path / "nowhere") == {}
    save_answers(tmp_path, "ann", {"learned-3": ANSWER})
    save_answers(tmp_path, "idle", {})
    (tmp_path / ".ann.json.12.partial").write_text("{")
    assert load_raters(tmp_path) == {"ann": {"learned-3": ANSWER}}


def test_only_two_yes_make_a_direction_interpretable() -> None:
    found = {
        (one, two): Answer(one, two, "", ANSWER.time).interpretable for one in (True, False) for two in (True, False)
    }
    assert [answers for answers, yes in found.items() if yes] == [(True, True)]


@pytest.mark.parametrize(
    ("given", "stored"),
    [("Ann", "ann"), (" bob-2 ", "bob-2"), ("Ю_я", "ю_я"), ("A\u0308nne", "änne"), ("x" * 32, "x" * 32)],
)
def test_names_of_raters(given: str, stored: str) -> None:
    assert clean_rater(given) == stored


@pytest.mark.parametrize(
    "name",
    ["", " ", "..", ".", "../ann", "a/b", "a\\b", "/etc/passwd", "-ann", "_ann", ".ann", "a.b", "a b", "a\x00", "a\nb",
     "x" * 33, "a%2e", None, 3, ["ann"]],
)  # fmt: skip
def test_no_name_of_a_rater_leaves_the_folder(name: object) -> None:
    with pytest.raises(UserError, match="letters, digits"):
        clean_rater(name)


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{}", '{"answers": 3}', '{"answers": [3]}', '{"answers": [{"direction": "learned-1"}]}',
        json.dumps({"answers": [{"direction": "learned-1", "consistent": 1, "one_factor": True, "name": "",
                                 "time": ANSWER.time}]}),
        json.dumps({"answers": [{"direction": "learned-1", "consistent": True, "one_factor": True, "name": "",
                                 "time": "yesterday"}]}),
        json.dumps({"answers": [{"direction": "learned-1", "consistent": True, "one_factor": True, "name": "",
                                 "time": "2026-01-01T00:00:00"}]}),
    ],
)  # fmt: skip
def test_damaged_files_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "ann.json").write_text(content)
    with pytest.raises(UserError, match=r"ann\.json"):
        load_answers(tmp_path, "ann")
