from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from saliency_gan.config import (
    STAGES,
    AppConfig,
    DiscoverConfig,
    EvaluateConfig,
    ExportConfig,
    MasksConfig,
    PredictConfig,
    ReportConfig,
    SweepConfig,
    TrainGanConfig,
    TrainSaliencyConfig,
    to_plain,
)
from saliency_gan.config.pipeline import load_pipeline
from saliency_gan.errors import UserError
from saliency_gan.storage.yaml_files import read_yaml
from saliency_gan.training.learner import learning_rate

PIPELINES = Path(__file__).parents[2] / "pipelines"


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "pipeline.yaml"
        path.write_text(text)
        return path

    return write


def test_shared_settings_reach_the_stages_that_have_them(write):
    pipeline = load_pipeline(write("run: runs/x\nseed: 3\ngenerator: tiny\ntruncation: 0.5\nprecision: fp32\n"))
    assert set(pipeline) == set(STAGES)
    drawing = {"run": Path("runs/x"), "seed": 3, "generator": "tiny", "truncation": 0.5, "precision": "fp32"}
    assert pipeline["discover"] == drawing
    assert pipeline["masks"] == drawing
    assert pipeline["train-gan"] == {"run": Path("runs/x"), "seed": 3, "precision": "fp32"}
    assert pipeline["report"] == {"run": Path("runs/x")}


def test_a_section_overrides_what_is_shared(write):
    pipeline = load_pipeline(write("seed: 3\nprecision: fp32\nmasks:\n  seed: 4\n  pairs: 50\nadapt:\n"))
    assert pipeline["masks"] == {"seed": 4, "precision": "fp32", "pairs": 50}
    assert pipeline["discover"] == {"seed": 3, "precision": "fp32"}
    assert pipeline["adapt"] == {"seed": 3, "precision": "fp32"}


@pytest.mark.parametrize("content", ["false", "0", "[]", '""'])
def test_a_section_that_holds_no_settings_is_refused(write, content):
    with pytest.raises(UserError, match="masks should hold 'name: value' lines"):
        load_pipeline(write(f"masks: {content}\n"))


def test_shared_weights_are_the_generator_s_and_no_saliency_model_s(write):
    pipeline = load_pipeline(write("weights: downloads\npredict: {weights: model.safetensors}\n"))
    assert pipeline["discover"]["weights"] == pipeline["masks"]["weights"] == Path("downloads")
    assert pipeline["predict"]["weights"] == Path("model.safetensors")
    assert not any("weights" in pipeline[verb] for verb in ("evaluate", "adapt", "app"))


def test_values_come_as_the_stages_hold_them(write):
    pipeline = load_pipeline(
        write(
            "discover: {K: 8, lr_deformator: 1e-4, classes: [dog, 7], steps: 1_000, direction: null, weights: null}\n"
            "evaluate: {images: photos, compare: [a=b.safetensors]}\n"
        )
    )
    discover = DiscoverConfig(**pipeline["discover"])
    assert (discover.K, discover.lr_deformator, discover.classes, discover.steps) == (8, 1e-4, ("dog", 7), 1000)
    assert discover.direction is None and discover.weights is None
    assert EvaluateConfig(**pipeline["evaluate"]).images == Path("photos")
    assert pipeline["evaluate"]["compare"] == ("a=b.safetensors",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sede: 1", "pipeline.yaml has a key 'sede' that is no setting: did you mean 'seed'"),
        ("discovery: {}", "pipeline.yaml has a key 'discovery' that is no setting: did you mean 'discover'"),
        ("train_gan: {}", "did you mean 'train-gan'"),
        ("save: map", "a key 'save' that is no setting: it is a setting of predict, so write it below 'predict:'"),
        ("zzz: 1", "a key 'zzz' that is no setting: saliency-gan VERB --help lists those of a verb"),
        ("steps: 5", "has a key 'steps' that is no setting"),
        ("masks: {pair: 5}", "pipeline.yaml: masks has a key 'pair' that is no setting: did you mean 'pairs'"),
        ("report: {K: 120}", "report has a key 'K'"),
        ("1: 2", "has a key 1 that is no setting"),
        ("masks: 5", "masks should hold 'name: value' lines, but holds 5"),
        ("- masks", "should hold 'name: value' lines, but holds a list"),
        ("masks: {", "cannot be read as YAML"),
        ("seed: !!python/object/apply:os.system [echo]", "cannot be read as YAML"),
    ],
)
def test_mistakes_are_refused_with_the_nearest_name(write, text, message):
    with pytest.raises(UserError, match=message):
        load_pipeline(write(text))


def test_missing_and_unreadable_files_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"There is no config .*gone.yaml"):
        load_pipeline(tmp_path / "gone.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "bytes.yaml"):
        with pytest.raises(UserError, match="cannot be read as YAML"):
            load_pipeline(path)


def test_an_empty_file_changes_nothing(write):
    assert load_pipeline(write("# nothing\n")) == {verb: {} for verb in STAGES}


@pytest.mark.parametrize(
    ("text", "value"), [("1e-4", 1e-4), ("-2E+3", -2000.0), ("1.5e2", 150.0), ("12", 12), ("e4", "e4"), ("1e", "1e")]
)
def test_numbers_with_an_exponent_are_numbers(write, text, value):
    result = read_yaml(write(f"value: {text}"))["value"]
    assert result == value and type(result) is type(value)


@pytest.mark.parametrize("path", sorted(PIPELINES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_pipeline_of_the_repository_builds_its_stages(path):
    for verb, settings in load_pipeline(path).items():
        config = STAGES[verb](**settings)
        for field in fields(config):
            default, value = getattr(STAGES[verb](), field.name), getattr(config, field.name)
            if default is not None and value is not None and not isinstance(value, int | float):
                assert type(value) is type(default), field.name


def test_biggan_deep_128_has_the_published_settings():
    pipeline = load_pipeline(PIPELINES / "biggan-deep-128.yaml")
    config = DiscoverConfig(**pipeline["discover"])
    assert (config.generator, config.K, config.steps, config.batch) == ("biggan-deep-128", 120, 100_000, 32)
    assert (config.deformator, config.reconstructor) == ("orthonormal", "resnet18")
    assert (config.lr_deformator, config.lr_reconstructor) == (1e-4, 1e-4)
    assert (config.max_shift, config.min_shift) == (6.0, 0.5)
    assert (config.regression_weight, config.regression_loss) == (0.25, "mae")
    masks = MasksConfig(**pipeline["masks"])
    assert (masks.generator, masks.rule, masks.theta) == ("biggan-deep-128", "threshold", 0.95)
    assert (masks.min_area, masks.max_area) == (0.05, 0.5)
    assert TrainSaliencyConfig(**pipeline["train-saliency"]).resolution == 128
    assert {settings["run"] for verb, settings in pipeline.items() if verb != "generators"} == {
        Path("runs/biggan-deep-128")
    }


def test_biggan_128_paper_has_the_settings_of_the_public_code():
    pipeline = load_pipeline(PIPELINES / "biggan-128-paper.yaml")
    discover = DiscoverConfig(**pipeline["discover"])
    assert (discover.generator, discover.K, discover.steps, discover.batch) == ("biggan-128", 120, 100_000, 32)
    assert (discover.deformator, discover.reconstructor) == ("orthonormal", "resnet18")
    masks = MasksConfig(**pipeline["masks"])
    assert (masks.rule, masks.shift, masks.theta) == ("threshold", 26.0, 0.95)
    assert (masks.min_area, masks.max_area, masks.max_border, masks.classes) == (0.05, 0.5, 1.0, None)
    assert (masks.opening, masks.min_component, masks.fill_holes, masks.two_peaks) == (0, 0.0, False, False)
    train = TrainSaliencyConfig(**pipeline["train-saliency"])
    assert (train.source, train.resolution, train.steps, train.batch) == ("generator", 128, 15_000, 128)
    assert (train.loss, train.optimiser, train.ema, train.augment) == ("paper", "adam", 0.0, "none")
    rates = [learning_rate(step, train.steps, train.lr, train.lr_drops, train.lr_factor) for step in range(train.steps)]
    for step in (0, 3999, 4000, 7999, 8000, 11999, 12000, 14999):
        assert rates[step] == pytest.approx(0.005 * 0.2 ** (step // 4000))


def test_plain_settings_survive_yaml():
    config = TrainGanConfig(images=Path("a/b"), exclude=("x",), lr_generator=1e-5)
    plain = yaml.safe_load(yaml.safe_dump(to_plain(config)))
    assert plain == to_plain(config)
    assert plain["images"] == "a/b" and plain["exclude"] == ["x"] and plain["lr_generator"] == 1e-5


@pytest.mark.parametrize("verb", STAGES)
def test_every_setting_of_every_stage_is_explained(verb):
    explained = "".join(one.__doc__ or "" for one in STAGES[verb].__mro__)
    for field in fields(STAGES[verb]):
        assert f"        {field.name}: " in explained, field.name


def test_what_stages_read_and_write():
    run = Path("r")
    assert TrainGanConfig(run=run, images=Path("i")).reads() == [Path("i")]
    assert run / "generator" / "generator.safetensors" in TrainGanConfig(run=run).writes()
    assert DiscoverConfig(run=run).reads() == []
    assert DiscoverConfig(run=run, weights=Path("w")).reads() == [Path("w")]
    assert DiscoverConfig(run=run, generator="g/x.safetensors").reads() == [Path("g/x.safetensors")]
    assert run / "discover" / "directions.json" in DiscoverConfig(run=run).writes()
    assert MasksConfig(run=run, generator="g.safetensors").reads() == [Path("g.safetensors"), run / "discover"]
    assert MasksConfig(run=run, directions=Path("d")).reads() == [Path("d")]
    assert MasksConfig(run=run).reads() == [], "the bundled directions stand in"
    assert run / "masks" / "manifest.json" in MasksConfig(run=run).writes()
    assert TrainSaliencyConfig(run=run).reads() == [run / "masks"]
    assert TrainSaliencyConfig(run=run, shards=Path("s")).reads() == [Path("s")]
    assert TrainSaliencyConfig(run=run, source="generator").reads() == []
    evaluate = EvaluateConfig(run=run, images=Path("i"), masks=Path("m"), compare=("bundled", "mine=x.safetensors"))
    assert evaluate.reads() == [Path("i"), Path("m"), Path("x.safetensors")]
    assert evaluate.writes() == [run / "evaluation"]
    assert EvaluateConfig(output=Path("o.json")).writes() == [Path("o.json")]
    assert PredictConfig(run=run).reads() == [] and PredictConfig(output=Path("o")).writes() == [Path("o")]
    assert PredictConfig().writes() == [Path("predictions")]
    assert PredictConfig(run=run).writes() == [run / "predictions"]
    assert ReportConfig(run=run).reads() == [run] and ReportConfig(run=run).writes() == [run / "report.html"]


def test_a_key_that_is_there_twice_is_refused(write):
    with pytest.raises(UserError, match="the key 'steps' is there twice"):
        load_pipeline(write("discover:\n  steps: 1\n  steps: 2\n"))


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1, 10**20])
def test_seeds_beyond_64_bits_are_refused(seed):
    for config in (DiscoverConfig, MasksConfig, SweepConfig):
        with pytest.raises(UserError, match="a whole number of 64 bits"):
            config(seed=seed)
    for config in (EvaluateConfig, AppConfig, ExportConfig):
        with pytest.raises(UserError, match="a whole number of 64 bits"):
            config(seed=seed).check()
