"""What a training does from step to step, written down while it runs."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from saliency_gan.training.learner import Learner


class Watch:
    """Of every training step: the images, and the optimiser's settings. The weights are averaged by the formula."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ema: float) -> None:
        self.learner: Learner | None = None
        self.images: list[np.ndarray] = []
        self.settings: list[list[tuple[float, float]]] = []
        self.average: list[Tensor] = []
        learn = Learner.learn

        def watched(learner: Learner, images: np.ndarray, *rest: Any) -> Tensor:
            if not self.images:
                self.learner, self.average = learner, weights_of(learner.model)
            loss = learn(learner, images, *rest)
            self.images.append(images)
            self.settings.append([(group["lr"], group["weight_decay"]) for group in learner.optimiser.param_groups])
            step = len(self.images)
            kept = min(ema, (1 + step) / (10 + step))
            both = zip(self.average, weights_of(learner.model), strict=True)
            self.average = [kept * old + (1 - kept) * new for old, new in both]
            return loss

        monkeypatch.setattr(Learner, "learn", watched)

    def check_average(self) -> None:
        assert self.learner is not None
        torch.testing.assert_close(weights_of(self.learner.average), self.average, rtol=1e-5, atol=1e-6)


def weights_of(module: nn.Module) -> list[Tensor]:
    return [parameter.detach().double().clone() for parameter in module.parameters()]


def count_known(images: np.ndarray, originals: np.ndarray) -> tuple[int, int]:
    """How many images are originals or mirror images of originals, and how many of these are no originals."""
    straight, mirrored = ({image.tobytes() for image in some} for some in (originals, originals[:, :, ::-1]))
    files = [image.tobytes() for image in images]
    return sum(file in straight | mirrored for file in files), sum(file in mirrored - straight for file in files)


def count_compiled_calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Replaces torch.compile, so that no compiler is needed; counts the calls of each class of compiled modules."""
    calls: Counter[str] = Counter()

    def compile_(call: Any, **_: Any) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            calls[type(call.__self__).__name__] += 1
            return call(*arguments, **named)

        return counted

    monkeypatch.setattr(torch, "compile", compile_)
    return calls
