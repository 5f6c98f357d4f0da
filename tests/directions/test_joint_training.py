"""Stage 1 in two processes, or with a batch in several parts: the same as in one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from saliency_gan.compute.batch_norm import JointBatchNorm
from saliency_gan.compute.processes import rank
from saliency_gan.config import DiscoverConfig
from saliency_gan.directions.discovery import discover
from saliency_gan.directions.training import DiscoveryTrainer
from saliency_gan.errors import UserError
from saliency_gan.generators.base import Generator
from saliency_gan.generators.zoo import save_generator
from saliency_gan.runs.random_streams import random_stream
from tests.directions.worlds import tiny_biggan
from tests.jobs import JobError, kill_self, run_job


class Waves(Generator):
    """Smooth in z, and of the precision of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.latent_dim, self.num_classes, self.resolution = "waves", 6, 2, 16
        self.class_names = ("sine", "cosine")
        self.register_buffer("basis", torch.randn(6, 3 * 16 * 16, generator=random_stream(1)))

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        return torch.sin(latents @ self.basis / 3 + classes[:, None]).view(-1, 3, 16, 16)

    @property
    def feature_layers(self) -> dict[str, nn.Module]:
        return {}


def _gradients(accumulate: int, joint_norms: bool) -> dict:
    """Gradients of one step in float64, by parameter."""
    torch.set_default_dtype(torch.float64)
    config = DiscoverConfig(
        K=5, batch=8, accumulate=accumulate, reconstructor="lenet", device="cpu", precision="fp32", lr_deformator=0.1
    )
    trainer = DiscoveryTrainer(config, Waves())
    if not joint_norms:  # a batch's statistics are those of its parts
        for module in trainer.reconstructor.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | JointBatchNorm):
                module.eval()
    trainer.train_step()
    networks = {"A": trainer.deformator.module, "R": trainer.reconstructor.module}
    found = {f"{key}.{name}": one.grad for key, network in networks.items() for name, one in network.named_parameters()}
    return {name: gradient.numpy() for name, gradient in found.items()} | {"metrics": trainer.mean_metrics()}


def assert_same(one: dict, other: dict, within: float) -> None:
    assert one["metrics"] == pytest.approx(other["metrics"], abs=within)
    assert one.keys() == other.keys() and len(one) > 5
    for name in one.keys() - {"metrics"}:
        first, second = torch.from_numpy(one[name]), torch.from_numpy(other[name])
        assert first.dtype == torch.float64 and first.abs().max() > 0
        torch.testing.assert_close(first, second, atol=within, rtol=0)


def test_two_processes_have_the_gradients_of_one():
    (alone,) = run_job(_gradients, 1, True, processes=1)
    for together in run_job(_gradients, 1, True, processes=2):
        assert_same(alone, together, within=1e-9)


def test_a_batch_in_parts_has_the_gradients_of_the_whole():
    (whole,) = run_job(_gradients, 1, False, processes=1)
    (parts,) = run_job(_gradients, 4, False, processes=1)
    assert_same(whole, parts, within=1e-9)
    for together in run_job(_gradients, 2, False, processes=2):
        assert_same(whole, together, within=1e-9)


@pytest.fixture
def config(tmp_path) -> DiscoverConfig:
    save_generator(tiny_biggan(), tmp_path / "tiny.safetensors")
    return DiscoverConfig(
        generator=str(tmp_path / "tiny.safetensors"), run=tmp_path / "together", device="cpu", precision="fp32", K=6,
        batch=4, steps=3, lr_deformator=1e-2, reconstructor="lenet", log_every=1, rca_samples=10, rca_every=3,
        background_samples=4, background_shifts=(6.0,), gallery_samples=0,
    )  # fmt: skip


def _discover(config: DiscoverConfig, kill_at: int | None = None) -> None:
    """Runs the stage; process 1 is killed when it is about to do step `kill_at`."""
    train_step = DiscoveryTrainer.train_step

    def step_or_die(trainer: DiscoveryTrainer) -> None:
        if rank() == 1 and trainer.step == kill_at:
            kill_self()
        train_step(trainer)

    DiscoveryTrainer.train_step = step_or_die
    discover(config)


def _found(config: DiscoverConfig) -> tuple[Tensor, list[dict]]:
    folder = config.run / "discover"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("steps_per_second", None)
    return safetensors.torch.load_file(folder / "directions.safetensors")["A"], lines


def test_a_run_of_two_ends_as_a_run_of_one_and_goes_on_alone(config):
    alone = replace(config, run=config.run.parent / "alone")
    run_job(_discover, config, processes=2)
    run_job(_discover, alone, processes=1)
    for steps in (3, 5):
        if steps == 5:  # from the checkpoint of two
            for one in (config, alone):
                run_job(_discover, replace(one, steps=steps), processes=1)
        (first, lines), (second, expected) = _found(config), _found(alone)
        torch.testing.assert_close(first, second, atol=1e-4, rtol=0)
        assert len(lines) == len(expected)
        for line, other in zip(lines, expected, strict=True):
            assert line == pytest.approx(other, abs=1e-3)


def test_after_a_killed_process_the_same_command_ends_as_if_none_had_been(config):
    killed = replace(config, run=config.run.parent / "killed", checkpoint_every=1)
    with pytest.raises(JobError) as caught:
        run_job(_discover, killed, 2)
    assert caught.value.failures[1] == "killed" and "Another process of this job ended" in caught.value.failures[0]
    run_job(_discover, killed)
    run_job(_discover, config)
    (first, lines), (second, expected) = _found(killed), _found(config)
    assert first.equal(second) and lines == expected


def test_a_batch_that_cannot_be_shared_is_refused(config):
    with pytest.raises(JobError) as caught:
        run_job(_discover, replace(config, batch=5))
    assert "--batch 5 cannot be cut into equal parts for 2 processes with --accumulate 1: give a multiple of 2" in str(
        caught.value
    )
    with pytest.raises(UserError, match="has to be 8 or more, for batch normalisation in R"):
        discover(replace(config, batch=4, accumulate=4))


def test_what_the_main_process_refuses_ends_the_others(config):
    folder = Path(config.run) / "discover"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("K: 7\n")
    with pytest.raises(JobError) as caught:
        run_job(discover, config)
    assert "begun with K = 7, but K = 6 was asked for" in caught.value.failures[0]
    assert "Another process of this job ended" in caught.value.failures[1]


def _step(compile: bool) -> dict:
    config = DiscoverConfig(
        K=5, batch=8, reconstructor="lenet", device="cpu", precision="fp32", compile=compile, lr_deformator=0.1
    )
    trainer = DiscoveryTrainer(config, Waves())
    trainer.train_step()
    return {"A": trainer.deformator.matrix.detach().numpy(), "names": list(trainer.state()["reconstructor"])}


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.parametrize("processes", [1, 2])
def test_compiled_networks_learn_the_same_and_keep_their_names(processes):
    (plain,) = run_job(_step, False, processes=1)
    for compiled in run_job(_step, True, processes=processes):
        assert compiled["names"] == plain["names"]
        torch.testing.assert_close(*(torch.from_numpy(one["A"]) for one in (compiled, plain)), atol=1e-4, rtol=0)
