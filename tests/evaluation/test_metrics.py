import math
import warnings

import cv2
import numpy as np
import py_sod_metrics
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saliency_gan.evaluation.metrics import METRICS, SaliencyMetrics, score_image

from .reference import loop_scores, structure_scores

SIDES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)


@pytest.fixture
def pairs():
    """Six maps of blurred noise, of several sizes, with masks that they resemble."""
    random = np.random.default_rng(3)
    made = []
    for height, width in ((13, 17), (20, 11), (16, 16), (9, 24), (18, 18), (12, 15)):
        truth = np.zeros((height, width), bool)
        top, left = random.integers(1, height // 2), random.integers(1, width // 2)
        truth[top : top + height // 2, left : left + width // 3] = True
        noise = cv2.GaussianBlur(random.random((height, width)), (0, 0), 1.0)
        made.append((np.clip(0.1 + 0.6 * noise + 0.12 * truth, 0, 1), truth))
    return made


def test_equals_a_loop_over_pixels(pairs):
    for saliency, truth in pairs:
        found, wanted = score_image(saliency, truth), loop_scores(saliency, truth)
        for key, value in wanted.items():
            np.testing.assert_allclose(getattr(found, key), value, atol=1e-12, err_msg=key)


def test_structure_alignment_and_weights_are_the_papers(pairs):
    for saliency, truth in pairs:
        found = score_image(saliency, truth)
        for key, value in structure_scores(saliency.tolist(), truth.tolist()).items():
            assert getattr(found, key) == pytest.approx(value, abs=1e-9), key


def test_structure_and_alignment_of_a_flat_map_by_hand():
    truth = np.zeros((4, 4), bool)
    truth[:, :2] = True
    scores = score_image(np.full((4, 4), 0.5), truth)
    # S_object is 2 x .5 / (.25 + 1) on both sides. The centroid's column is the first: both maps are flat there, beyond
    # it only one is. A flat map is aligned with nothing, so each of 16 pixels counts 1/4, and they are divided by 15.
    assert scores.s_measure == pytest.approx(0.5 * 0.8 + 0.5 * 0.25)
    assert scores.e_measure == pytest.approx(4 / 15)


def test_means_over_images_come_before_the_maximum(pairs):
    metrics = SaliencyMetrics()
    for saliency, truth in pairs:
        metrics.update(saliency, truth)
    loops = [loop_scores(saliency, truth) for saliency, truth in pairs]
    curve = [math.fsum(loop["f"][t] for loop in loops) / len(loops) for t in range(256)]
    found = metrics.compute()
    assert found["max_f"] == pytest.approx(max(curve), abs=1e-12)
    assert found["max_f"] < math.fsum(max(loop["f"]) for loop in loops) / len(loops) - 1e-3
    assert found["mean_f"] == pytest.approx(math.fsum(curve) / 256, abs=1e-12)
    for key in ("mae", "iou", "accuracy", "adaptive_f"):
        assert found[key] == pytest.approx(math.fsum(loop[key] for loop in loops) / len(loops), abs=1e-12)
    assert found["n"] == 6
    curves = metrics.curves()
    np.testing.assert_allclose(curves.precision[7], math.fsum(loop["precision"][7] for loop in loops) / 6, atol=1e-12)
    np.testing.assert_allclose(curves.recall[200], math.fsum(loop["recall"][200] for loop in loops) / 6, atol=1e-12)


def test_equals_pysodmetrics_with_its_defaults(pairs):
    """pysodmetrics takes uint8 and stretches; all but MAE, IoU and accuracy are counted so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = {
            "f": py_sod_metrics.Fmeasure(),
            "w": py_sod_metrics.WeightedFmeasure(),
            "s": py_sod_metrics.Smeasure(),
            "e": py_sod_metrics.Emeasure(),
        }
    ours = SaliencyMetrics()
    for saliency, truth in pairs:
        grey, mask = np.round(saliency * 255).astype(np.uint8), truth.astype(np.uint8) * 255
        ours.update(grey, mask)
        for metric in theirs.values():
            metric.step(grey, mask)
    f = theirs["f"].get_results()["fm"]
    wanted = {
        "max_f": f["curve"].max(),
        "mean_f": f["curve"].mean(),
        "adaptive_f": f["adp"],
        "weighted_f": theirs["w"].get_results()["wfm"],
        "s_measure": theirs["s"].get_results()["sm"],
        "e_measure": theirs["e"].get_results()["em"]["curve"].mean(),
    }
    found = ours.compute()
    for key, value in wanted.items():
        assert found[key] == pytest.approx(value, abs=1e-12), key


def test_mae_is_not_stretched_but_f_is():
    truth = np.zeros((4, 4), bool)
    truth[:2] = True
    faint = np.where(truth, 0.3, 0.1)
    scores = score_image(faint, truth)
    assert scores.mae == pytest.approx((0.7 + 0.1) / 2)
    assert scores.iou == 0
    assert scores.accuracy == 0.5
    assert scores.f[255] == pytest.approx(1)
    assert scores.adaptive_f == pytest.approx(1)


def test_a_perfect_map():
    truth = np.zeros((30, 40), bool)
    truth[8:20, 10:25] = True
    metrics = SaliencyMetrics()
    metrics.update(truth.astype(np.float32), truth)
    found = metrics.compute()
    assert found["mae"] == 0
    for key in ("max_f", "adaptive_f", "weighted_f", "s_measure", "iou", "accuracy"):
        assert found[key] == pytest.approx(1, abs=1e-9), key
    area = truth.mean()
    everything = 1.3 * area / (0.3 * area + 1)  # at threshold 0 all is foreground
    assert found["mean_f"] == pytest.approx((255 + everything) / 256)
    assert 0.99 < found["e_measure"] <= 1


def test_an_inverted_map():
    truth = np.zeros((30, 40), bool)
    truth[8:20, 10:25] = True
    scores = score_image(1 - truth.astype(np.float64), truth)
    assert scores.mae == 1
    assert scores.iou == scores.accuracy == scores.adaptive_f == 0
    assert scores.f[1:].max() == 0
    assert scores.weighted_f == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_map(value):
    truth = np.zeros((10, 10), bool)
    truth[:, :3] = True
    scores = score_image(np.full((10, 10), value), truth)
    assert scores.mae == pytest.approx(0.3 * (1 - value) + 0.7 * value)
    assert scores.iou == (0.3 if value >= 0.5 else 0)
    assert scores.accuracy == pytest.approx(0.3 if value >= 0.5 else 0.7)
    assert scores.f[0] == pytest.approx(1.3 * 0.3 / (0.3 * 0.3 + 1))
    assert scores.f[200] == (pytest.approx(scores.f[0]) if value == 1 else 0)


def test_half_belongs_to_the_object():
    scores = score_image(np.full((2, 2), 0.5), np.ones((2, 2), bool))
    assert scores.iou == scores.accuracy == 1


def test_an_empty_mask_and_an_empty_map():
    empty = np.zeros((5, 6), bool)
    scores = score_image(np.zeros((5, 6)), empty)
    assert scores.mae == 0
    assert scores.iou == scores.accuracy == 1
    assert scores.weighted_f == scores.f.max() == 0
    assert score_image(np.ones((5, 6)), empty).iou == 0


def test_a_mask_whose_centroid_is_on_the_last_row():
    truth = np.zeros((12, 12), bool)
    truth[-1, 3:6] = True
    assert 0 < score_image(np.random.default_rng(0).random((12, 12)), truth).s_measure < 1


def test_uint8_and_float_agree():
    random = np.random.default_rng(1)
    grey = random.integers(0, 256, (14, 9), dtype=np.uint8)
    mask = (random.random((14, 9)) > 0.6).astype(np.uint8) * 255
    one, other = score_image(grey, mask), score_image(grey / 255, mask > 0)
    for key in ("mae", "iou", "accuracy", "adaptive_f", "weighted_f", "s_measure", "e_measure"):
        assert getattr(one, key) == pytest.approx(getattr(other, key))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_every_figure_is_a_number_in_range(data):
    shape = data.draw(SIDES)
    saliency = data.draw(
        st.one_of(
            hnp.arrays(np.float32, shape, elements=st.floats(0, 1, width=32)),
            hnp.arrays(np.uint8, shape),
        )
    )
    truth = data.draw(hnp.arrays(np.bool_, shape))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = SaliencyMetrics()
        metrics.update(saliency, truth)
        found = metrics.compute()
    assert list(found) == [*METRICS, "n"]
    for key in METRICS:
        assert -1e-9 <= found[key] <= 1 + 1e-9, key
    assert found["mean_f"] <= found["max_f"]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_loop_agrees_on_anything(data):
    shape = data.draw(SIDES)
    saliency = data.draw(hnp.arrays(np.float64, shape, elements=st.integers(0, 20).map(lambda level: level / 20)))
    truth = data.draw(hnp.arrays(np.bool_, shape))
    found, wanted = score_image(saliency, truth), loop_scores(saliency, truth)
    for key in ("mae", "iou", "accuracy", "f"):
        np.testing.assert_allclose(getattr(found, key), wanted[key], atol=1e-9, err_msg=key)


@pytest.mark.parametrize(
    ("saliency", "truth", "message"),
    [
        (np.zeros((3, 4)), np.zeros((4, 3), bool), r"\(3, 4\).*\(4, 3\)"),
        (np.zeros((3, 4, 3)), np.zeros((3, 4, 3), bool), r"\[H, W\]"),
        (np.full((3, 4), 1.5), np.zeros((3, 4), bool), "1.5"),
        (np.full((3, 4), -0.1), np.zeros((3, 4), bool), "-0.1"),
        (np.full((3, 4), np.nan), np.zeros((3, 4), bool), "nan"),
    ],
)
def test_refuses_what_is_no_map(saliency, truth, message):
    with pytest.raises(ValueError, match=message):
        score_image(saliency, truth)


def test_no_image_no_figures():
    with pytest.raises(ValueError, match="no image"):
        SaliencyMetrics().compute()
