from pathlib import Path
from typing import Literal

import pytest

from saliency_gan.cli.values import choices, guess, in_words, is_list, place, shown

TYPES = [
    (int, "a whole number", "N"),
    (bool, "true or false", "{true,false}"),
    (float | Literal["otsu"], "a number or otsu", "X|otsu"),
    (Path | None, "a path", "PATH"),
    (Literal["map", "mask"], "map or mask", "{map,mask}"),
    (tuple[Literal["map", "mask"], ...], "map or mask", "{map,mask},..."),
    (tuple[str | int, ...] | None, "a text or a whole number", "TEXT|N,..."),
    (Literal[1, -1], "1 or -1", "{1,-1}"),
]


@pytest.mark.parametrize(("hint", "words", "where"), TYPES)
def test_types_in_words(hint, words, where):
    assert in_words(hint) == words
    assert place(hint) == where
    assert is_list(hint) == where.endswith("...")


def test_the_words_that_a_type_allows():
    assert choices(tuple[float | Literal["otsu"], ...]) == ["otsu"]
    assert choices(int) == []


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), ((400, 500), "400,500"), ((), "none"), (0.5, "0.5"), (Path("a/b"), "a/b")]
)
def test_values_are_shown_as_they_are_typed(value, text):
    assert shown(value) == text


@pytest.mark.parametrize(
    ("name", "meant"),
    [("arch", "architecture"), ("stepps", "steps"), ("image", "images"), ("threshold", None), ("", None)],
)
def test_what_was_meant(name, meant):
    assert guess(name, {"architecture", "batch", "steps", "method", "images", "image_format"}) == meant
