import math

import numpy as np
import pytest
import torch
from torch import nn

from saliency_gan.devices import make_fabric
from saliency_gan.saliency.learner import Learner, learning_rate, saliency_loss
from saliency_gan.saliency.model import SaliencyModel
from tests.saliency.toys import TINY_ARCHITECTURE, discs


def test_bce_and_dice_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(3, 1, 5, 4)) * 3, rng.random((3, 1, 5, 4)) > 0.6
    entropy, dice = 0.0, 0.0
    for logit, target in zip(logits, targets, strict=True):
        overlap = total = 0.0
        for value, wanted in zip(logit.ravel(), target.ravel(), strict=True):
            saliency = 1 / (1 + math.exp(-value))
            entropy -= math.log(saliency if wanted else 1 - saliency) / logits.size
            overlap += saliency * wanted
            total += saliency + wanted
        dice += (1 - (2 * overlap + 1) / (total + 1)) / len(logits)
    loss = saliency_loss(torch.from_numpy(logits), torch.from_numpy(targets).double(), "bce+dice")
    assert float(loss) == pytest.approx(entropy + dice, abs=1e-12)


def test_the_papers_loss_is_the_cross_entropy_of_two_logits_over_ten() -> None:
    rng = np.random.default_rng(1)
    raw, targets = rng.normal(size=(2, 2, 4, 4)) * 20, rng.integers(0, 2, (2, 4, 4))
    entropy = 0.0
    for index in np.ndindex(targets.shape):
        background, foreground = raw[index[0], :, index[1], index[2]] / 10
        chosen = foreground if targets[index] else background
        entropy += (math.log(math.exp(background) + math.exp(foreground)) - chosen) / targets.size
    logits = torch.from_numpy((raw[:, 1:] - raw[:, :1]) / 10)  # what SaliencyModel.forward makes of two outputs
    loss = saliency_loss(logits, torch.from_numpy(targets)[:, None].double(), "paper")
    assert float(loss) == pytest.approx(entropy, abs=1e-12)


def test_the_learning_rate_drops_when_a_share_of_the_steps_is_done() -> None:
    rates = [learning_rate(step, 10, 1.0, (0.5, 0.8), 0.1) for step in range(10)]
    assert rates == pytest.approx([1.0] * 5 + [0.1] * 3 + [0.01] * 2)


def test_a_step_is_that_of_plain_torch() -> None:
    torch.manual_seed(0)
    learner = Learner(SaliencyModel(TINY_ARCHITECTURE), make_fabric("cpu", "fp32"), "paper", "adam", ema=0.5)
    torch.manual_seed(0)
    reference = SaliencyModel(TINY_ARCHITECTURE)
    optimiser = torch.optim.Adam(reference.parameters(), lr=0.01)
    images, masks = discs(4)
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    targets = torch.from_numpy(masks)[:, None].float() / 255
    for _ in range(2):
        loss = nn.functional.binary_cross_entropy_with_logits(reference(inputs), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        assert float(learner.learn(images, masks, 0.01)) == pytest.approx(float(loss.detach()), abs=1e-4)
    assert learner.step == 2


def test_the_paper_optimiser_has_no_weight_decay_and_adamw_has() -> None:
    fabric = make_fabric("cpu", "fp32")
    for optimiser, decay in (("adam", 0.0), ("adamw", 0.3)):
        learner = Learner(SaliencyModel(TINY_ARCHITECTURE), fabric, optimiser=optimiser, weight_decay=0.3)
        assert learner.optimiser.param_groups[0]["weight_decay"] == decay
