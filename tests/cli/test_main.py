import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from saliency_gan.cli.arguments import parse
from saliency_gan.cli.main import FUNCTIONS, READERS, SHARED, main
from saliency_gan.config import STAGES
from saliency_gan.errors import UserError
from saliency_gan.images.reading import FirstFrameWarning

PIPELINES = Path(__file__).parents[2] / "pipelines"


def test_flags_override_the_pipeline_which_overrides_the_defaults(tmp_path: Path) -> None:
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text("seed: 7\ndiscover: {K: 60, steps: 10}\nmasks: {pairs: 3}\n")
    config, options = parse("discover", ["--config", str(pipeline), "--steps", "20"])
    assert (config.seed, config.K, config.steps, config.batch) == (7, 60, 20, 32)
    assert options == {"config": str(pipeline), "dry_run": False, "paths": None}


@pytest.mark.parametrize("value", ["map,mask", "[map, mask]", "[map,mask]"])
@pytest.mark.parametrize("joined", [True, False])
def test_lists_are_taken_with_and_without_brackets(value: str, joined: bool) -> None:
    flag = [f"--save={value}"] if joined else ["--save", value]
    config, options = parse("predict", ["a.jpg", "folder", *flag])
    assert config.save == ("map", "mask")
    assert options["paths"] == ["a.jpg", "folder"]


def test_class_names_may_hold_spaces_and_numbers() -> None:
    assert parse("discover", ["--classes", "golden retriever,3"])[0].classes == ("golden retriever", 3)


def test_a_switch_needs_no_value() -> None:
    assert parse("annotate", ["--remove", "--direction", "background"])[0].remove is True
    assert parse("annotate", ["--direction", "17", "--remove"])[0].remove is True
    assert parse("annotate", ["--remove", "false"])[0].remove is False
    assert parse("rate", ["--browser=false"])[0].browser is False
    assert parse("annotate", ["--direction", "17"])[0].direction == 17


@pytest.mark.parametrize(
    ("written", "classes"),
    [
        ("teapot,10-20,7", ("teapot", "10-20", 7)),
        ("jack-o'-lantern, potter's wheel", ("jack-o'-lantern", "potter's wheel")),
        ('["paddle, oar", teapot]', ("paddle, oar", "teapot")),
        ("'paddle, oar',teapot", ("paddle, oar", "teapot")),
        ("no,on,null", ("no", "on", "null")),  # words of YAML
        ("null", None),
    ],
)
def test_classes_as_people_write_them(written: str, classes: tuple[str | int, ...] | None) -> None:
    assert parse("discover", ["--classes", written])[0].classes == classes
    assert parse("masks", [f"--classes={written}"])[0].classes == classes


def test_classes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "dogs").write_text("golden retriever\npaddle, oar\n")
    config, _ = parse("discover", ["--classes", f"@{tmp_path / 'dogs'},5"])
    assert config.classes == ("golden retriever", "paddle, oar", 5)


def test_rounds_are_lists_of_flags() -> None:
    words = ["--steps", "400,400", "--resolutions", "160,192", "--images", "a,b/c", "--thresholds=0.4,0.5"]
    config, _ = parse("train-student", [*words, "--restart", "true,false", "--decoder-channels", "64,32,16"])
    assert (config.steps, config.resolutions, config.thresholds) == ((400, 400), (160, 192), (0.4, 0.5))
    assert config.images == (Path("a"), Path("b/c"))
    assert (config.restart, config.decoder_channels) == ((True, False), (64, 32, 16))
    adapt, _ = parse("adapt", ["--steps", "300", "--images", "my photos", "--resolutions", "[]", "--scales", "1,1.5"])
    assert (adapt.steps, adapt.images, adapt.resolutions, adapt.scales) == (
        (300,),
        (Path("my photos"),),
        (),
        (1.0, 1.5),
    )


def test_the_help_of_train_student_has_units_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train-student", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for sentence in (
        "learns from a teacher's marks",
        "Folders of unlabelled photos",
        "Training steps of each round",
        "Side in pixels at which a round's model sees photos, a multiple of 32",
        "default: 400,400",
        "default: 160,224",
        "Decay per step of the averaged weights",
        "The student's encoder.",
        "Saliency model that marks the photos of the first round",
    ):
        assert sentence in told, sentence


def test_a_dry_run_of_train_student_tells_what_it_reads_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train-student", "--dry-run", "--run", "r", "--images", "a,b", "--steps", "5,6"]) == 0
    settings, _, plan = capsys.readouterr().out.partition("reads:")
    assert yaml.safe_load(settings)["train-student"]["steps"] == [5, 6]
    reads, _, writes = plan.partition("writes:")
    assert [line.strip() for line in reads.strip().splitlines()] == [
        "teacher: r/saliency  (missing)", "a  (missing)", "b  (missing)",
    ]  # fmt: skip
    assert "r/student/model.safetensors" in writes and "r/student/metrics.jsonl" in writes


def test_numbers_in_lists_stay_numbers() -> None:
    assert parse("discover", ["--background-shifts", "4,6.5,1e1"])[0].background_shifts == (4.0, 6.5, 10.0)
    assert parse("train-saliency", ["--decoder-channels", "64,32"])[0].decoder_channels == (64, 32)


@pytest.mark.parametrize(
    ("words", "units"),
    [
        (["--ablate-units", "block1:3,17,42"], ("block1:3,17,42",)),
        (["--ablate_units=block1:3,17", "--steps", "5", "--ablate_units", "block2:5"], ("block1:3,17", "block2:5")),
        (["--ablate_units", '["block1:3,17", "block2:5"]'], ("block1:3,17", "block2:5")),
        (["--ablate_units", "[]"], ()),
        ([], ("block0:1",)),
    ],
)
def test_units_of_a_layer_stay_together(tmp_path: Path, words: list[str], units: tuple[str, ...]) -> None:
    (tmp_path / "pipeline.yaml").write_text('ablate_units: ["block0:1"]\n')
    for verb in ("discover", "masks", "dissect", "eigen"):
        given = words if verb == "discover" else [word for word in words if word not in ("--steps", "5")]
        assert parse(verb, ["--config", str(tmp_path / "pipeline.yaml"), *given])[0].ablate_units == units


def test_only_what_draws_has_units() -> None:
    with pytest.raises(UserError, match="evaluate has no setting --ablate_units"):
        parse("evaluate", ["--ablate_units", "block1:3"])
    with pytest.raises(UserError, match="masks"):
        parse("masks", ["--ablate_units"])


def test_a_verb_needs_no_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generators"]) == 0
    assert "biggan-caltech101-64" in capsys.readouterr().out


def test_the_home_folder_is_found_where_the_shell_leaves_its_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    for words in (["--output=~/masks"], ["--output", "~/masks"]):
        assert parse("predict", ["x.jpg", *words])[0].output == Path("/home/ann/masks")
    for words in (["--images=~/a,b,~/c"], ["--images", "~/a,b,~/c"]):
        assert parse("adapt", words)[0].images == (Path("/home/ann/a"), Path("b"), Path("/home/ann/c"))
    assert parse("masks", ["--classes", "~cat"])[0].classes == ("~cat",)


def test_lists_that_are_given_once_for_each_value_are_shown_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["masks", "--help"])
    assert "--ablate-units LAYER:N,... " in " ".join(capsys.readouterr().out.split())
    assert main(["masks", "--ablate-units", "block1:3", "block2:5"]) == 2
    assert "give --over and --ablate-units once for each value" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["predict", "evaluate", "export", "app"])
def test_a_run_can_be_taken_back(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pipeline.yaml").write_text("run: no/such/run\n")
    words = ["photo.jpg"] * (verb == "predict") + ["--config", str(tmp_path / "pipeline.yaml"), "--run", "null"]
    assert main([verb, *words, "--dry-run"]) == 0
    assert "Traceback" not in capsys.readouterr().err


def test_a_report_has_the_name_of_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--run", str(tmp_path), "--output", str(tmp_path)]) == 2
    assert "has to be the name of a file that ends in .html or .htm" in capsys.readouterr().err


def test_dashes_stand_for_underscores() -> None:
    assert parse("discover", ["--lr-deformator", "0.5"])[0].lr_deformator == 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["disco"], "did you mean 'discover'"),
        (["discover", "--stepps", "3"], "did you mean --steps"),
        (["discover", "--K", "many"], "K is many, but has to be a whole number."),
        (["discover", "--deformator", "orthogonl"], "linear, mlp, coordinate or random: did you mean orthonormal?"),
        (["discover", "--threshold"], "discover has no setting --threshold: saliency-gan discover --help lists"),
        (["train-saliency", "--arch", "Unet"], "did you mean --architecture?"),
        (
            ["predict", "x", "--save", "map,msk"],
            "has to be a list whose entries are map, map16, mask, cutout or overlay:",
        ),
        (["predict", "x", "--threshold", "hi"], "threshold is hi, but has to be a number or otsu."),
        (["predict", "x", "--skip_existing", "maybe"], "skip_existing is maybe, but has to be true or false."),
        (["predict", "x", "--weights"], "predict: --weights needs a value after it."),
        (["predict", "nowhere"], "There is no nowhere: give photos, videos, or folders of them."),
        (["predict", "x", "--background", "white"], "only cut-outs have one: add cutout to --save."),
        (
            ["train-gan", "--start_discriminatr", "x"],
            "no setting --start-discriminatr: did you mean --start-discriminator?",
        ),
        (["qqqq"], "There is no verb 'qqqq': saliency-gan --help lists them."),
        (["discover", "--config", "missing.yaml"], "missing.yaml"),
        (
            ["predict", "x", "--save", "map", "mask", "--scales", "1"],
            "mask belongs to no setting: write lists with com",
        ),
        (["evaluate", "--compare", "a=b", "--compare", "c=d"], "--compare is there twice: write all values at once"),
        (["predict", "-x.jpg"], "-x.jpg belongs to no setting: if it is a file, write ./-x.jpg."),
        (["predict", "x", "--no-flip"], "predict has no setting --no-flip: write --flip false."),
        (["predict", "x", "--device", "gpu"], "auto, cpu, cuda or mps: did you mean cuda?"),
        (["predict", "x", "--resolution", "31"], "--resolution is 31, but has to be from 32 to 4096."),
        (["predict"], "say what is to be marked: photos, videos, or folders of them."),
        (["evaluate", "--benchmark", "ecsd"], "ecssd"),
    ],
)
def test_mistakes_get_one_sentence_and_exit_code_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err


def test_an_unknown_key_in_the_pipeline_is_refused_with_the_nearest_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text("masks: {thetta: 0.5}\n")
    assert main(["masks", "--config", str(pipeline)]) == 2
    assert "'theta'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("pairs: many", "pairs is many, but has to be a whole number."),
        ("theta: x", "theta is x, but has to be a number or otsu."),
        ("fill_holes: 3", "fill_holes is 3, but has to be true or false."),
        ("classes: {a: 1}", "classes is {'a': 1}, but has to be a list whose entries are a text or a whole number."),
        ("rule: z", "rule is z, but has to be threshold, difference, lighting, two-sided, units or consensus."),
        ("opening: 1.5", "opening is 1.5, but has to be a whole number."),
    ],
)
def test_a_value_of_the_wrong_type_in_the_pipeline_is_refused(
    line: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(f"run: {tmp_path}/run\nmasks: {{{line}}}\n")
    assert main(["masks", "--config", str(pipeline), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert f"{pipeline}: masks: {sentence}" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("verb", STAGES)
def test_a_dry_run_prints_settings_that_can_be_read_back_and_writes_nothing(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    seed = ["--seed", "5"] if "seed" in {field.name for field in fields(STAGES[verb])} else []
    assert main([verb, *["photo.jpg"] * (verb == "predict"), "--dry-run", *seed]) == 0
    settings, _, plan = capsys.readouterr().out.partition("reads:")
    (tmp_path / "plan.yaml").write_text(settings)
    words = [*["photo.jpg"] * (verb == "predict")]
    assert parse(verb, [*words, "--config", "plan.yaml"])[0] == parse(verb, [*words, *seed])[0]
    (tmp_path / "plan.yaml").unlink()
    assert "writes:" in plan
    assert ("photo.jpg  (missing)" in plan) == (verb == "predict")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("pipeline", sorted(PIPELINES.glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("verb", STAGES)
def test_every_pipeline_is_valid_for_every_verb(pipeline: Path, verb: str) -> None:
    config, _ = parse(verb, [*["photo.jpg"] * (verb == "predict"), "--config", str(pipeline)])
    assert isinstance(config, STAGES[verb])


def test_verbs_of_one_process_are_refused_under_torchrun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.chdir(tmp_path)
    for verb in FUNCTIONS.keys() - SHARED:
        assert main([verb]) == 2
        assert f"{verb} is done by one process: call it without torchrun" in capsys.readouterr().err
    assert not any(tmp_path.iterdir()) and FUNCTIONS.keys() == STAGES.keys() >= set(SHARED)


def test_the_reason_is_told_while_torchrun_ends_the_job(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("saliency_gan.compute.processes.speaks", lambda: signal.raise_signal(signal.SIGTERM) or True)
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        assert main(["masks", "--pairs", "many"]) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "saliency-gan: masks: " in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from saliency_gan.cli.main import main\n"
        "try: main(['discover', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'cv2', 'lightning_fabric', 'albumentations') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "latent directions" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("ctrl_c", [signal.SIG_IGN, signal.default_int_handler])
def test_what_ends_a_job_interrupts_also_where_ctrl_c_is_ignored(
    handlers: None, ends: signal.Signals, ctrl_c: signal.Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saliency_gan.generators.listing.list_generators", lambda _: signal.raise_signal(ends))
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, ctrl_c)
    assert main(["generators"]) == 130


def test_a_closed_terminal_ends_nothing_under_nohup(handlers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saliency_gan.generators.listing.list_generators", lambda _: signal.raise_signal(signal.SIGHUP))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert main(["generators"]) == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train-gan"], "interrupted; the same command goes on from what was saved."),
        (["predict", "x.jpg"], "interrupted; the same command with --skip-existing goes on from what was saved."),
        (["generators"], "interrupted."),
    ],
)
def test_ctrl_c_promises_only_what_a_verb_can_do(words, sentence, monkeypatch, capsys):
    monkeypatch.setattr("saliency_gan.cli.main._run", lambda _: signal.raise_signal(signal.SIGINT))
    assert main(words) == 130
    assert capsys.readouterr().err == f"\nsaliency-gan: {sentence}\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_names_that_the_terminal_cannot_show_are_escaped(tmp_path: Path, encoding: str) -> None:
    command = [sys.executable, "-m", "saliency_gan", "predict", "--config", str(tmp_path / "乌龟.yaml")]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert done.returncode == 2 and rb"\u4e4c\u9f9f.yaml" in done.stderr and b"Traceback" not in done.stderr


def test_closed_streams_stop_nothing(tmp_path: Path) -> None:
    """`2>&-` and `>&-` leave the process without a stream."""
    command = f"{sys.executable} -m saliency_gan generators --json >&- 2>&-"
    assert subprocess.run(["sh", "-c", command]).returncode == 0


def test_what_the_package_warns_of_is_a_sentence_on_stderr(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", None)
    assert main(["--version"]) == 0
    capsys.readouterr()
    warnings.showwarning(FirstFrameWarning("x.gif has 3 frames."), FirstFrameWarning, "images.py", 3)
    assert capsys.readouterr() == ("", "saliency-gan: x.gif has 3 frames.\n")


DEMO = PIPELINES / "demo.yaml"


@pytest.mark.parametrize(
    "verb", ["discover", "masks", "train-saliency", "train-student", "predict", "evaluate", "report"]
)
def test_one_line_of_flags_serves_every_verb_of_a_pipeline(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in `make demo ARGS="--run ..."`; a flag that the verb has no use for is passed over beside --config alone."""
    flags = ["--run", str(tmp_path), "--seed=3", "--device", "cpu", "--precision", "fp32", "--dry-run"]
    words = [verb, *["photo.jpg"] * (verb == "predict")]
    assert main([*words, "--config", str(DEMO), *flags]) == 0
    settings = yaml.safe_load(capsys.readouterr().out.partition("reads:")[0])[verb]
    assert settings["run"] == str(tmp_path)
    assert {"seed": 3, "device": "cpu", "precision": "fp32"}.items() >= {
        name: settings[name] for name in settings.keys() & {"seed", "device", "precision"}
    }.items()
    assert main([verb, *["photo.jpg"] * (verb == "predict"), "--dry-run", "--nonsense", "3"]) == 2


def test_a_flag_that_a_verb_has_no_use_for_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["predict", "x", "--seed", "1"], ["report", "--device", "cpu"], ["generators", "--run", "x"]):
        assert main(words) == 2
        assert f"has no setting {words[-2]}" in capsys.readouterr().err


@pytest.mark.parametrize("verb", READERS)
def test_a_run_that_is_named_has_to_be_there(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, *["photo.jpg"] * (verb == "predict"), "--run", "no/such/run", "--dry-run"]) == 2
    assert "There is no run folder no/such/run" in capsys.readouterr().err
    if verb not in ("walk", "app"):  # the model is named, so that the run is only a place for results
        words = ["--run", "no/such/run", "--weights", "model.safetensors", "--dry-run"]
        assert main([verb, *["photo.jpg"] * (verb == "predict"), *words]) == 0
        capsys.readouterr()
    words = ["--config", str(DEMO.parent / "units.yaml"), "--dry-run"]
    assert main([verb, *["photo.jpg"] * (verb == "predict"), *words]) == 0
    if verb in ("predict", "app", "export"):
        assert "bundled, since runs/units has none" in capsys.readouterr().out


def test_predict_says_and_takes_the_model_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").touch()
    model = tmp_path / "run" / "student" / "model.safetensors"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"damaged")
    assert main(["predict", "photo.jpg", "--run", "run"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("model: run/student (the run's)\n")
    assert "run/student/model.safetensors is not a saliency model" in error
    assert main(["predict", "photo.jpg", "--run", "run", "--weights", "bundled", "--output", "out"]) == 1
    assert capsys.readouterr().err.startswith("model: bundled\n")


def test_pairs_on_the_fly_read_what_masks_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        "train-saliency",
        "--source",
        "generator",
        "--run",
        str(tmp_path / "run"),
        "--seed",
        "3",
        "--device",
        "cpu",
    ]
    assert main([*words, "--dry-run"]) == 0
    plan = capsys.readouterr().out.partition("reads:")[2]
    assert f"directions: biggan-caltech101-64 (bundled), since {tmp_path / 'run'} has none" in plan
    assert "/discover" not in plan and "pairs:" not in plan
    given = []
    monkeypatch.setattr("saliency_gan.training.train_saliency.train_saliency", lambda *configs: given.append(configs))
    assert main([*words, "--precision", "fp32"]) == 0
    (config, masks) = given[0]
    for name in ("run", "seed", "device", "precision"):
        assert getattr(masks, name) == getattr(config, name)
    assert (masks.seed, masks.device, masks.precision) == (3, "cpu", "fp32")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["discover", "--min-shift", "9"], "--min-shift is 9.0, but has to be from 0 to --max-shift 6."),
        (["masks", "--opening", "4"], "--opening is 4, but has to be 0 or an odd number of pixels."),
        (["train-saliency", "--steps", "0"], "--steps is 0, but has to be 1 or more."),
        (["train-student", "--ema", "1"], "--ema is 1.0, but has to be from 0 to below 1."),
        (["train-gan", "--image-channels", "2"], "--image-channels is 2, but has to be 3 for colour or 1 for grey."),
        (["walk", "--output", "x.avi"], "has to be the name of a file that ends in .gif, .mp4 or .png."),
        (["evaluate", "--output", "x.txt"], "has to be the name of a file that ends in .json."),
        (["export", "--tolerance", "0"], "--tolerance is 0.0, but has to be above 0 and at most 1"),
        (["dissect", "--images", "1"], "--images is 1, but has to be 2 or more."),
        (["rate", "--port", "70000"], "--port is 70000, but has to be a port"),
        (["mos", "--confidence", "1"], "--confidence is 1.0, but has to be between 0 and 1."),
        (["app", "--max-megabytes", "0"], "--max-megabytes is 0, but has to be 1 or more."),
        (["eigen", "--frames", "1"], "--frames is 1, but has to be 2 or more."),
    ],
)
def test_a_dry_run_refuses_what_the_run_would_refuse(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--dry-run"]) == 2
    out, error = capsys.readouterr()
    assert sentence in error and not out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["predict", ""], "the first path"),
        (["predict", "a.jpg", "--output", ""], "--output"),
        (["masks", "--run="], "--run"),
    ],
)
def test_an_empty_value_is_no_current_folder(
    words: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert f"{named} is empty: give a value" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "kinds"), [("cutout", ("cutout",)), ("map, mask", ("map", "mask")), ("[map]", ("map",))]
)
def test_lists_in_a_pipeline_can_be_written_as_on_the_command_line(
    tmp_path: Path, line: str, kinds: tuple[str, ...]
) -> None:
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(f"ablate_units: 'block1:3,4'\npredict:\n  save: {line}\n  scales: 1.5\n")
    config = parse("predict", ["x", "--config", str(pipeline)])[0]
    assert (config.save, config.scales) == (kinds, (1.5,))
    assert parse("masks", ["--config", str(pipeline)])[0].ablate_units == ("block1:3,4",)


def test_an_interrupt_while_modules_are_imported_is_no_traceback() -> None:
    code = (
        "import sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'saliency_gan.cli.main': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from saliency_gan.__main__ import run\n"
        "sys.exit(run())"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, b"")


@pytest.mark.skipif(sys.platform != "linux", reason="it needs /dev/full")
def test_a_full_disk_or_a_closed_pipe_behind_standard_output_is_no_traceback() -> None:
    command = f"{sys.executable} -m saliency_gan generators --json"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    full = subprocess.run(["sh", "-c", f"{command} > /dev/full"], capture_output=True, text=True, env=environment)
    assert full.returncode == 1
    assert full.stderr == "saliency-gan: No space left on device: look at the output and try again.\n"
    closed = subprocess.run(["sh", "-c", f"{command} | true"], capture_output=True, text=True, env=environment)
    assert closed.stderr == ""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("run:\n", "discover: run is empty: give a value, or leave the line out."),
        ("discover: {steps:}\n", "discover: steps is empty: give a value, or leave the line out."),
        ("run: 2024\n", "run is the number 2024: put a name of digits into quotes."),
        ("discover: {regression_weight: .nan}\n", "discover: regression_weight is nan, but has to be a finite number."),
    ],
)
def test_values_in_a_pipeline_that_no_flag_could_have(
    tmp_path: Path, text: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pipeline.yaml").write_text(text)
    assert main(["discover", "--config", str(tmp_path / "pipeline.yaml"), "--dry-run"]) == 2
    assert sentence in capsys.readouterr().err


def test_numbers_that_are_names_stay_as_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse("train-student", ["--images", "2024,007,1_0"])[0].images == (Path("2024"), Path("007"), Path("1_0"))
    assert parse("train-gan", ["--exclude=001,1e3"])[0].exclude == ("001", "1e3")
    assert parse("masks", ["--classes", "10,010,1_0,3-5"])[0].classes == (10, "010", "1_0", "3-5")
    assert parse("predict", ["x", "--scales", "1,1.5,.5"])[0].scales == (1.0, 1.5, 0.5)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "pipeline.yaml"
    path.write_text("run: ~/exp\ntrain-student: {images: '~/a,b'}\nadapt: {images: photos}\n")
    assert parse("discover", ["--config", str(path)])[0].run == tmp_path / "exp"
    assert parse("train-student", ["--config", str(path)])[0].images == (tmp_path / "a", Path("b"))
    assert parse("adapt", ["--config", str(path)])[0].images == (Path("photos"),)
    path.write_text("adapt: {images: [~/a, '007']}\n")
    assert parse("adapt", ["--config", str(path)])[0].images == (tmp_path / "a", Path("007"))


def test_too_little_memory_is_explained_by_any_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("saliency_gan.prediction.predict.predict", full)
    (tmp_path / "photo.png").touch()
    assert main(["predict", str(tmp_path / "photo.png"), "--output", str(tmp_path / "out"), "--batch", "3"]) == 1
    assert capsys.readouterr().err.endswith("The memory is too small for a batch of 3: give --batch below 3.\n")
