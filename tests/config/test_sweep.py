from pathlib import Path

import pytest
import yaml

from saliency_gan.cli.arguments import parse
from saliency_gan.cli.main import main
from saliency_gan.config import DiscoverConfig, SweepConfig, sweep_points
from saliency_gan.errors import UserError


def points(*over, seeds=(0,), base=None):
    config = SweepConfig(run=Path("runs/x"), over=over, seeds=seeds, device="cpu")
    return sweep_points(config, base or DiscoverConfig(K=64, batch=7))


def test_the_grid_is_the_product_with_all_seeds_of_a_combination_together():
    grid = points("discover.K=16,32", "discover.deformator=random,unit", seeds=(3, 1))
    found = [(point.discover.K, point.discover.deformator, point.discover.seed) for point in grid]
    assert found == [
        (16, "random", 3), (16, "random", 1), (16, "unit", 3), (16, "unit", 1),
        (32, "random", 3), (32, "random", 1), (32, "unit", 3), (32, "unit", 1),
    ]  # fmt: skip
    assert grid[0].values == {"K": 16, "deformator": "random"}
    assert {point.discover.batch for point in grid} == {7}
    assert {point.discover.device for point in grid} == {"cpu"}


def test_without_a_setting_the_seeds_alone_are_swept():
    grid = points(seeds=(0, 1))
    assert [(point.values, point.discover.seed) for point in grid] == [({}, 0), ({}, 1)]
    assert SweepConfig().title == "seeds"
    assert [point.discover.seed for point in sweep_points(SweepConfig(seed=5), DiscoverConfig())] == [5]


def test_lambda_stands_for_the_weight_of_the_regression():
    grid = points("discover.lambda=0,.125,2")
    assert [point.discover.regression_weight for point in grid] == [0.0, 0.125, 2.0]
    assert grid == points("discover.regression_weight=0,0.125,2")
    assert SweepConfig(over=("discover.lambda=0,2", "discover.K=1,2")).title == "lambda+K"


def test_points_that_sweeps_share_have_one_folder():
    by_k = [point.slug for point in points("discover.K=32,64")]
    by_lambda = [point.slug for point in points("discover.lambda=0.25,2")]
    by_kind = [point.slug for point in points("discover.deformator=orthonormal,random")]
    assert by_k[1] == by_lambda[0] == by_kind[0] == "K-64_lambda-0.25_deformator-orthonormal_seed-0"
    assert len({*by_k, *by_lambda, *by_kind}) == 4
    assert points("discover.K=32,64")[0].discover.run == Path("runs/x/sweep") / by_k[0]


def test_a_single_value_holds_for_all_and_is_no_column():
    grid = points("discover.K=16,32", "discover.steps=50")
    assert [(point.values, point.discover.steps) for point in grid] == [({"K": 16}, 50), ({"K": 32}, 50)]
    assert SweepConfig(over=("discover.K=16,32", "discover.steps=50")).title == "K"
    assert SweepConfig(over=("discover.lambda=0.5", "discover.K=16,32")).title == "K+lambda-0.5"
    assert "steps" not in grid[0].slug


def test_folder_names_hold_nothing_but_safe_characters():
    slug = points("discover.generator=a/b.safetensors,c d")[0].slug
    assert slug == "K-64_lambda-0.25_deformator-orthonormal_generator-a-b.safetensors_seed-0"


def test_no_gallery_is_drawn_unless_it_is_asked_for():
    assert points()[0].discover.gallery_samples == 0
    assert points("discover.gallery_samples=3")[0].discover.gallery_samples == 3


def test_a_direction_and_a_search_in_the_pipeline_are_left_out_because_a_sweep_needs_no_h_bg():
    base = DiscoverConfig(direction=1, method="optimise")
    assert {(point.discover.direction, point.discover.method) for point in points(base=base)} == {(None, "rank")}


@pytest.mark.parametrize(
    ("over", "sentence"),
    [
        (["discover.sign=2"], r"'2' is no value of it; did you mean -?1\?"),
        (["discover.K=16,x"], r"discover\.K: 'x' is no value of it; expected int"),
        (["discover.K=1.5"], "'1.5' is no value"),
        (["discover.deformator=random,coordinat"], r"'coordinat' .*; did you mean coordinate\?"),
        (["discover.batches=3"], r"no setting of discover; did you mean discover\.batch\?"),
        (["discover.X=3"], r"no setting of discover; saliency-gan discover --help lists them"),
        (["discover.lamda=3"], r"did you mean discover\.lambda\?"),
        (["K=16,32"], r"did you mean discover\.K\?"),
        (["masks.pairs=1"], "no setting of discover"),
        (["discover.seed=1,2"], "use --seeds instead"),
        (["discover.run=a,b"], "use --run instead"),
        (["discover.K=16,16"], "holds 16 twice"),
        (["discover.lambda=.25,0.250"], "holds 0.25 twice"),
        (["discover.K=1", "discover.K=2"], "is given twice"),
        (["discover.lambda=1", "discover.regression_weight=2"], "is given twice"),
        (["discover.K"], "give values separated by commas"),
        (["discover.K=16,"], "give values separated by commas"),
        (["discover.classes=1,2"], "a setting that is itself a list"),
    ],
)
def test_mistakes_get_one_sentence_and_where_possible_a_suggestion(over, sentence, capsys):
    with pytest.raises(UserError, match=sentence):
        SweepConfig(over=tuple(over))
    words = [word for entry in over for word in ("--over", entry)]
    assert main(["sweep", "--dry-run", *words]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and captured.out == ""


def test_repeated_seeds_are_refused():
    with pytest.raises(UserError, match="--seeds holds 1 twice"):
        SweepConfig(seeds=(0, 1, 1))


def test_the_command_line_takes_over_once_a_setting(tmp_path):
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text("discover: {K: 8}\nsweep: {seeds: [4, 5], over: ['discover.batch=2,3']}\n")
    config, _ = parse("sweep", ["--config", str(pipeline)])
    assert (config.seeds, config.over) == ((4, 5), ("discover.batch=2,3",))
    words = ["--over", "discover.K=16,32", "--seeds", "0,1", "--over=discover.lambda=0,1"]
    config, _ = parse("sweep", ["--config", str(pipeline), *words])
    assert (config.seeds, config.over) == ((0, 1), ("discover.K=16,32", "discover.lambda=0,1"))


def test_a_dry_run_lists_the_points_with_the_pipeline_s_settings(tmp_path, capsys):
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text("run: runs/y\ndiscover: {K: 8}\nsweep: {seeds: [4]}\n")
    words = ["--config", str(pipeline), "--over", "discover.lambda=0,1", "--dry-run"]
    assert main(["sweep", *words]) == 0
    settings, _, plan = capsys.readouterr().out.partition("reads:")
    assert yaml.safe_load(settings)["sweep"]["over"] == ["discover.lambda=0,1"]
    assert plan.split() == [
        "writes:",
        *(f"runs/y/sweep/lambda{suffix}" for suffix in (".md", ".json", ".png")),
        "runs/y/sweep/K-8_lambda-0_deformator-orthonormal_seed-4",
        "runs/y/sweep/K-8_lambda-1_deformator-orthonormal_seed-4",
    ]


def test_values_that_would_share_a_folder_are_refused():
    with pytest.raises(UserError, match=r"two points would share the folder K-64_lambda-0\.123457_"):
        points("discover.lambda=0.1234567,0.1234568")
