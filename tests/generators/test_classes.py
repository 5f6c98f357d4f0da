import pytest

from saliency_gan.errors import UserError
from saliency_gan.generators import imagenet
from saliency_gan.generators.classes import class_indices

NAMES = ("tench", "golden retriever", "crane bird", "crane", "Cardigan", "cardigan", "paddle, oar", "10-20", "teapot")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["golden retriever", "teapot"], [1, 8]),
        (["TEAPOT ", "Golden Retriever"], [8, 1]),
        ([3, "0"], [3, 0]),
        (["2-4", "8 - 8"], [2, 3, 4, 8]),
        (["10-20"], [7]),  # a name counts before a range
        (["paddle, oar"], [6]),
        (["crane"], [3]),
        (["Cardigan"], [4]),
        (["cardigan"], [5]),
        (["1", "golden retriever", "0-2"], [1, 0, 2]),  # each class once
    ],
)
def test_names_indices_and_ranges_become_indices(asked, expected):
    assert class_indices(asked, NAMES, "tiny") == expected


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("retriever", r"no class 'retriever': give an index below 9 or a name; did you mean 'golden retriever'\?"),
        ("bird", r"did you mean 'crane bird'\?"),
        ("teepot", r"did you mean 'teapot'\?"),
        ("paddle", r"did you mean 'paddle, oar'\?"),
        ("qqq", r"did you mean '.+'\?"),
        ("", r"no class ''.*did you mean '.+'\?"),
        ("9", r"no class '9': its indices are 0 to 8, and a range goes up"),
        ("4-2", r"no class '4-2': its indices are 0 to 8, and a range goes up"),
        ("5-9", r"no class '5-9'"),
        ("-1", r"no class '-1': give an index"),
        (
            "CARDIGAN",
            r"fits the classes 'Cardigan' \(4\) and 'cardigan' \(5\) of tiny: write it as one of them, or its",
        ),
    ],
)
def test_what_fits_no_class_or_several_is_refused_with_suggestions(asked, message):
    with pytest.raises(UserError, match=message):
        class_indices(["tench", asked], NAMES, "tiny")


def test_an_empty_list_is_refused():
    with pytest.raises(UserError, match="empty list"):
        class_indices([], NAMES, "tiny")


def test_suggestions_begin_with_the_shortest_name_that_holds_the_words():
    names = imagenet.class_names()
    with pytest.raises(UserError, match=r"did you mean 'golden retriever' or 'Labrador retriever' or 'flat-coated r"):
        class_indices(["retriever"], names, "biggan-128")


def test_imagenet_names_are_a_thousand_different_ones_in_the_usual_order():
    names = imagenet.class_names()
    assert len(names) == len(set(names)) == 1000
    known = {0: "tench", 134: "crane bird", 207: "golden retriever", 239: "Bernese mountain dog", 264: "Cardigan"}
    known |= {474: "cardigan", 517: "crane", 638: "maillot", 639: "maillot tank suit", 849: "teapot"}
    assert {index: names[index] for index in known} == known
    assert all(class_indices([name], names, "biggan-128") == [index] for index, name in enumerate(names))
