from saliency_gan.evaluation.benchmarks import BENCHMARKS
from saliency_gan.evaluation.metrics import METRICS
from saliency_gan.evaluation.published import published_rows


def rows_of(benchmark):
    return {row.method: row for row in published_rows(benchmark)}


def test_hs_on_ecssd():
    row = rows_of("ecssd")["HS"]
    assert row.figures == {"max_f": 0.673, "iou": 0.508, "accuracy": 0.847, "mae": 0.228}
    assert row.supervision == "none, handcrafted"
    assert "2013" in row.source


def test_every_benchmark_shows_its_own_figures():
    assert rows_of("ecssd")["conditional BigGAN-128, automatic direction"].figures == {"iou": 0.424, "accuracy": 0.848}
    assert rows_of("duts-te")["TokenCut"].figures == {"max_f": 0.672, "iou": 0.576, "accuracy": 0.903}
    assert rows_of("dut-omron")["MWS"].figures == {"max_f": 0.718, "mae": 0.114}
    assert [len(published_rows(key)) for key in ("ecssd", "duts-te", "dut-omron")] == [15, 15, 14]


def test_nothing_applies_to_other_photos():
    assert published_rows(None) == published_rows("sod") == published_rows("hku-is") == []


def test_every_figure_is_a_share():
    for benchmark in BENCHMARKS:
        for row in published_rows(benchmark):
            assert row.figures
            assert set(row.figures) <= set(METRICS)
            assert all(0 < value < 1 for value in row.figures.values())
            assert row.method and row.supervision and row.source
