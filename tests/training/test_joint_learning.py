"""Stage 3 in two processes, or with a batch in several parts: the same as in one."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from saliency_gan.compute.devices import make_fabric
from saliency_gan.compute.processes import own_parts, rank
from saliency_gan.config import TrainSaliencyConfig
from saliency_gan.errors import UserError
from saliency_gan.training.augmentation import Augmentation
from saliency_gan.training.learner import Learner
from saliency_gan.training.pairs import Mixture, Pairs, Part, augment
from saliency_gan.training.train_saliency import train_saliency
from tests.jobs import JobError, kill_self, run_job
from tests.saliency.toys import TINY, discs, write_shards

BATCH = 8


class Toy(nn.Module):
    """Two convolutions with or without batch normalisation between them, in float64."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        between = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.network = nn.Module()
        self.network.encoder = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), between, nn.Tanh())
        self.network.decoder = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.network.decoder(self.network.encoder(images.double()))  # type: ignore[no-any-return, operator]


def _gradients(accumulate: int, norm: bool) -> dict[str, np.ndarray]:
    torch.manual_seed(0)
    learner = Learner(Toy(norm).double(), make_fabric("cpu", "fp32"), accumulate=accumulate)  # type: ignore[arg-type]
    parts = [Part(Pairs(*discs(20)), 5, 0.5), Part(Pairs(*discs(9, first=50)), BATCH - 5)]
    mixture = Mixture(parts, Augmentation("full", 32), 0, own=own_parts(BATCH, accumulate))
    loss = learner.learn(*mixture[4], 0.1)
    gradients = {name: one.grad.numpy() for name, one in learner.model.module.named_parameters()}
    return gradients | {"loss": loss.numpy()}


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    for name in one:
        assert np.abs(one[name]).max() > 0
        np.testing.assert_allclose(one[name], other[name], rtol=0, atol=1e-9)


def test_two_processes_have_the_gradients_of_one():
    (alone,) = run_job(_gradients, 1, True, processes=1)
    for together in run_job(_gradients, 1, True, processes=2):
        assert_same(alone, together)


def test_a_batch_in_parts_has_the_gradients_of_the_whole():
    (whole,) = run_job(_gradients, 1, False, processes=1)
    for one in (*run_job(_gradients, 4, False, processes=1), *run_job(_gradients, 2, False, processes=2)):
        assert_same(whole, one)


def test_a_process_makes_its_part_of_the_same_batch():
    parts = [Part(Pairs(*discs(20)), 6, 0.5), Part(Pairs(*discs(9, first=50)), 2, 1.0)]
    augmentation = Augmentation("full", 32)
    whole = Mixture(parts, augmentation, 0, 1)[3]
    for own in ([range(2, 4), range(6, 8)], [range(0, 1)], [range(7, 8)]):
        numbers = [number for part in own for number in part]
        for made, expected in zip(Mixture(parts, augmentation, 0, 1, own=own)[3], whole, strict=True):
            np.testing.assert_array_equal(made, expected[numbers])
    pairs, random = Pairs(*discs(6)), torch.Generator()
    whole = augment(pairs, augmentation, random.manual_seed(1), 0.5)
    some = augment(pairs, augmentation, random.manual_seed(1), 0.5, own=[range(3, 5)])
    np.testing.assert_array_equal(some[0], whole[0][3:5])


def test_a_process_reads_only_the_pairs_that_its_part_needs():
    class Counted(Pairs):
        def subset(self, indices):
            read.extend(indices)
            return super().subset(indices)

    read: list[int] = []
    source = Counted(*discs(1000))
    Mixture([Part(source, 64)], Augmentation("none", 32), 0, own=[range(8, 16)])[0]
    assert len(read) == 8
    read.clear()
    Mixture([Part(source, 64, 1.0)], Augmentation("none", 32), 0, own=[range(8, 16)])[0]
    assert 8 < len(read) <= 24  # and one or two textures for each new background


def test_a_batch_that_cannot_be_cut_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"--batch 8 cannot be cut .* with --accumulate 3: give a multiple"):
        train_saliency(TrainSaliencyConfig(run=tmp_path, **TINY, accumulate=3))


@pytest.fixture
def together(tmp_path):
    shards = write_shards(tmp_path / "masks", 48)
    return TrainSaliencyConfig(
        run=tmp_path / "together", shards=shards, **TINY, steps=2, augment="flips", validation_pairs=16,
        checkpoint_every=2, log_every=1, optimiser="adam", lr=1e-4,
    )  # fmt: skip


@pytest.mark.slow
def test_a_run_of_two_ends_as_a_run_of_one_and_goes_on_alone(together, tmp_path):
    alone = replace(together, run=tmp_path / "alone", steps=4)
    run_job(train_saliency, together, processes=2)
    run_job(train_saliency, replace(together, steps=4), processes=1)
    run_job(train_saliency, alone, processes=1)
    first, second = (
        safetensors.torch.load_file(one.run / "saliency" / "model.safetensors") for one in (together, alone)
    )
    for name in first:
        torch.testing.assert_close(first[name].float(), second[name].float(), atol=2e-3, rtol=2e-2)


def _train(config: TrainSaliencyConfig, kill_at: int | None = None) -> None:
    """Runs the stage; process 1 is killed when it is about to do step `kill_at`."""
    learn = Learner.learn

    def learn_or_die(learner: Learner, *arguments: Any) -> Tensor:
        if rank() == 1 and learner.step == kill_at:
            kill_self()
        return learn(learner, *arguments)

    Learner.learn = learn_or_die
    train_saliency(config)


@pytest.mark.slow
def test_after_a_killed_process_the_same_command_ends_as_if_none_had_been(together, tmp_path):
    together = replace(together, steps=4)
    killed = replace(together, run=tmp_path / "killed")
    with pytest.raises(JobError) as caught:
        run_job(_train, killed, 3)
    assert caught.value.failures[1] == "killed" and "Another process of this job ended" in caught.value.failures[0]
    assert (killed.run / "saliency" / "checkpoints" / "last.pt").exists()
    run_job(_train, killed)
    run_job(_train, together)
    first, second = ((one.run / "saliency" / "model.safetensors").read_bytes() for one in (killed, together))
    assert first == second
