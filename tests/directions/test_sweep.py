import json
from pathlib import Path

import pytest

from saliency_gan.cli.main import main
from saliency_gan.config import DiscoverConfig, SweepConfig, sweep_points
from saliency_gan.directions import sweep as module
from saliency_gan.directions.discovery import discover
from saliency_gan.directions.sweep import sweep
from saliency_gan.errors import UserError
from saliency_gan.generators.zoo import save_generator
from tests.directions.worlds import tiny_sngan


@pytest.fixture
def generator(tmp_path) -> Path:
    save_generator(tiny_sngan(), tmp_path / "digits.safetensors")
    return tmp_path / "digits.safetensors"


@pytest.fixture
def base(generator) -> DiscoverConfig:
    return DiscoverConfig(
        generator=str(generator), K=4, batch=4, steps=3, reconstructor="lenet", checkpoint_every=2, log_every=1,
        rca_samples=16, rca_every=2, background_samples=4, background_shifts=(6.0,),
    )  # fmt: skip


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """The points that went through `discover`."""
    made = []

    def recorded(config):
        made.append(config.run.name)
        return discover(config)

    monkeypatch.setattr(module, "discover", recorded)
    return made


def config_of(tmp_path, *over, seeds=(0,)) -> SweepConfig:
    return SweepConfig(run=tmp_path / "run", over=over, seeds=seeds, device="cpu")


def read(tmp_path, name):
    return json.loads((tmp_path / "run" / "sweep" / f"{name}.json").read_text())


def test_every_point_is_run_and_what_came_out_is_written(tmp_path, base, calls, capsys):
    config = config_of(tmp_path, "discover.K=2,4", seeds=(0, 1))
    assert sweep(config, sweep_points(config, base)) == 0
    names = [f"K-{count}_lambda-0.25_deformator-orthonormal_seed-{seed}" for count in (2, 4) for seed in (0, 1)]
    assert calls == names
    content = read(tmp_path, "K")
    assert (content["unfinished"], content["failed"], len(content["rows"])) == (0, {}, 2)
    for row, count in zip(content["rows"], (2, 4), strict=True):
        accuracies = []
        for seed, run in enumerate(row["runs"]):
            slug = f"K-{count}_lambda-0.25_deformator-orthonormal_seed-{seed}"
            folder = tmp_path / "run" / "sweep" / slug / "discover"
            rca = json.loads((folder / "directions.json").read_text())["rca"]
            assert run["rca"] == rca
            lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            (logged,) = [line["rca"] for line in lines if "rca" in line]
            assert run["curve"] == [[2, logged], [3, rca["accuracy"]]]
            accuracies.append(rca["accuracy"])
            assert not (folder / "gallery").exists()
        assert row["accuracy"] == pytest.approx(sum(accuracies) / 2)
    table = (tmp_path / "run" / "sweep" / "K.md").read_text()
    assert table in capsys.readouterr().out
    assert (tmp_path / "run" / "sweep" / "K.png").stat().st_size > 1000


def test_what_is_done_is_not_done_again_and_sweeps_share_it(tmp_path, base, calls):
    by_k = config_of(tmp_path, "discover.K=2,4")
    sweep(by_k, sweep_points(by_k, base))
    table = (tmp_path / "run" / "sweep" / "K.md").read_bytes()
    calls.clear()
    assert sweep(by_k, sweep_points(by_k, base)) == 0
    assert calls == [] and (tmp_path / "run" / "sweep" / "K.md").read_bytes() == table
    by_kind = config_of(tmp_path, "discover.deformator=orthonormal,random,coordinate")
    assert sweep(by_kind, sweep_points(by_kind, base)) == 0
    assert [name.split("_")[2] for name in calls] == ["deformator-random", "deformator-coordinate"]
    assert len(read(tmp_path, "deformator")["rows"]) == 3
    assert read(tmp_path, "deformator")["rows"][0]["runs"][0]["rca"] == read(tmp_path, "K")["rows"][1]["runs"][0]["rca"]


@pytest.mark.slow
def test_two_runs_at_the_same_time_find_what_one_after_the_other_finds(tmp_path, base, capfd):
    contents = []
    for name, jobs in (("one", 1), ("two", 2)):
        config = SweepConfig(
            run=tmp_path / name, over=("discover.K=13,4,2",), seeds=(0,), device="cpu", jobs=jobs
        )  # 13 orthonormal directions do not fit into 12 dimensions
        assert sweep(config, sweep_points(config, base)) == 1
        contents.append(json.loads((tmp_path / name / "sweep" / "K.json").read_text()))
    one, two = contents
    assert one["failed"] == two["failed"] != {} and two["unfinished"] == 0
    for first, second in zip(one["rows"], two["rows"], strict=True):
        assert first["values"] == second["values"]
        assert first["accuracy"] == second["accuracy"]
        assert first["shift_mae"] == pytest.approx(second["shift_mae"], rel=1e-3)  # sums of one thread and of two
    printed = capfd.readouterr()
    assert "[3/3]" in printed.out and "Traceback" not in printed.err


def test_an_interrupted_sweep_goes_on(tmp_path, base, monkeypatch, calls):
    config = config_of(tmp_path, "discover.K=2,3,4")
    points = sweep_points(config, base)
    recorded = module.discover

    def interrupted(settings):
        if settings.K == 3:
            raise KeyboardInterrupt
        return recorded(settings)

    monkeypatch.setattr(module, "discover", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep(config, points)
    assert (read(tmp_path, "K")["unfinished"], len(read(tmp_path, "K")["rows"])) == (2, 1)
    monkeypatch.setattr(module, "discover", recorded)
    assert sweep(config, points) == 0
    assert [name.split("_")[0] for name in calls] == ["K-2", "K-3", "K-4"]


def test_more_steps_go_on_and_fewer_are_refused(tmp_path, base, calls):
    for steps, failures in (("3", 0), ("5", 0), ("4", 1)):
        config = config_of(tmp_path, f"discover.steps={steps}")
        assert sweep(config, sweep_points(config, base)) == failures
    assert len(calls) == 2
    (sentence,) = read(tmp_path, "seeds")["failed"].values()
    assert "was trained for 5 steps already, more than the 4 asked for" in sentence


def test_other_weights_of_the_generator_are_noticed(tmp_path, base, calls, generator):
    config = config_of(tmp_path)
    sweep(config, sweep_points(config, base))
    other = tiny_sngan()
    other.last.bias.data += 0.1
    save_generator(other, generator)
    assert sweep(config, sweep_points(config, base)) == 1
    assert "other weights" in next(iter(read(tmp_path, "seeds")["failed"].values()))


def test_a_failed_point_is_named_and_the_rest_goes_on(tmp_path, base, monkeypatch, capsys):
    config = config_of(tmp_path, "discover.K=13,2,3")  # 13 orthonormal directions do not fit into 12 dimensions
    recorded = module.discover

    def out_of_memory(settings):
        if settings.K == 2:
            raise RuntimeError("out of\n memory")
        return recorded(settings)

    monkeypatch.setattr(module, "discover", out_of_memory)
    assert sweep(config, sweep_points(config, base)) == 2
    content = read(tmp_path, "K")
    assert [row["values"]["K"] for row in content["rows"]] == ["3"]
    first, second = content["failed"].items()
    assert first[0].startswith("K-13_") and "K = 13 orthonormal directions do not fit" in first[1]
    assert second == ("K-2_lambda-0.25_deformator-orthonormal_seed-0", "RuntimeError: out of memory")
    assert f"Failed: {second[0]}: {second[1]}" in (tmp_path / "run" / "sweep" / "K.md").read_text()
    assert capsys.readouterr().out.count(" failed: ") == 2


def test_a_generator_that_is_not_there_ends_the_sweep_before_it_begins(tmp_path, base, generator):
    generator.unlink()
    config = config_of(tmp_path)
    with pytest.raises(UserError, match="no generator file"):
        sweep(config, sweep_points(config, base))
    assert not (tmp_path / "run").exists()


def test_the_command_line_runs_the_pipeline_s_settings(tmp_path, generator, capsys):
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(
        f"run: {tmp_path / 'run'}\ngenerator: {generator}\ndevice: cpu\n"
        "discover: {batch: 4, steps: 1, reconstructor: lenet, rca_samples: 8, background_samples: 2,"
        " background_shifts: [6.0]}\nsweep: {seeds: [7]}\n"
    )
    words = ["sweep", "--config", str(pipeline)]
    assert main([*words, "--over", "discover.K=2"]) == 0
    assert (tmp_path / "run" / "sweep" / "K-2_lambda-0.25_deformator-orthonormal_seed-7").is_dir()
    assert main([*words, "--over", "discover.K=13"]) == 1
    assert "K = 13 orthonormal directions do not fit" in capsys.readouterr().out
