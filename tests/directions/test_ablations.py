import csv
from importlib.resources import files

import pytest

from saliency_gan.config import DiscoverConfig
from saliency_gan.directions.ablations import PublishedAblation, published_ablation


def published(**settings):
    return published_ablation(DiscoverConfig(**({"generator": "sngan-mnist", "K": 64} | settings)))


@pytest.mark.parametrize(("count", "rca"), [(16, 0.98), (32, 0.95), (64, 0.88), (128, 0.79)])
def test_the_ablation_of_k_is_found(count, rca):
    assert published(K=count).rca == rca


@pytest.mark.parametrize(("weight", "rca"), [(0.0, 0.88), (0.125, 0.90), (0.25, 0.88), (0.5, 0.87), (2.0, 0.75)])
def test_the_ablation_of_lambda_is_found(weight, rca):
    assert published(regression_weight=weight).rca == rca


def test_a_row_holds_what_was_found_and_none_for_the_rest():
    assert published(generator="biggan-128", K=90) == PublishedAblation(
        0.90, 0.75, 68, "Voynov & Babenko, ICML 2020, ablation of K"
    )
    assert published(regression_weight=2.0).mos_absolute is None


@pytest.mark.parametrize(
    "settings",
    [{"deformator": "random"}, {"deformator": "coordinate"}, {"deformator": "mlp"}, {"K": 65},
     {"K": 16, "regression_weight": 2.0}, {"generator": "sngan-anime"}],
)  # fmt: skip
def test_nothing_is_shown_beside_settings_that_were_not_published(settings):
    assert published(**settings) is None


def test_every_setting_has_one_row():
    lines = list(csv.DictReader((files("saliency_gan.directions") / "ablations.csv").read_text().splitlines()))
    keys = [(line["generator"], line["K"], line["regression_weight"]) for line in lines]
    assert len(keys) == len(set(keys)) == 13
