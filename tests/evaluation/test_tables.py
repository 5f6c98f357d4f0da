import io

from rich.console import Console

from saliency_gan.evaluation.tables import COUNTING, Row, markdown_table, rich_table

ROWS = [
    Row("mine | yours", "model", {"max_f": 0.67321, "iou": 0.5, "mae": 1.0}),
    Row("centre prior", "baseline", {"max_f": 0.5532}),
    Row("HS", "published", {"max_f": 0.673}, "none, handcrafted", "Yan et al."),
]


def test_markdown():
    text = markdown_table("a set, 3 photos", ROWS, ["Left out: x.png | it is empty."])
    lines = text.replace("\N{NO-BREAK SPACE}", " ").splitlines()
    assert lines[0] == "# a set, 3 photos"
    assert lines[2].split("|")[3:] == [
        " max F ↑ ", " mean F ↑ ", " adaptive F ↑ ", " weighted F ↑ ", " S ↑ ", " E ↑ ", " IoU ↑ ", " accuracy ↑ ",
        " MAE ↓ ", "",
    ]  # fmt: skip
    assert lines[4] == r"| **mine \| yours** |  | 0.673 |  |  |  |  |  | 0.500 |  | 1.000 |"
    assert lines[5] == "| centre prior | none, baseline | 0.553 |  |  |  |  |  |  |  |  |"
    assert lines[6] == "| HS (Yan et al.) | none, handcrafted | 0.673 |  |  |  |  |  |  |  |  |"
    assert COUNTING in lines
    assert lines[-1] == r"Left out: x.png \| it is empty."
    assert len({line.replace(r"\|", "").count("|") for line in lines[2:7]}) == 1


def test_terminal_of_80_columns():
    buffer = io.StringIO()
    Console(file=buffer, width=80).print(rich_table("[a set]", ROWS))
    text = buffer.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "[a set]" in text
    for cell in ("mine | yours", ".673", ".500", "1.000", "HS (none,"):
        assert cell in text
