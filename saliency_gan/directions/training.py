"""Training of A and R on pairs of images of a frozen generator (Voynov & Babenko 2020, section 3)."""

import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saliency_gan.compute.batch_norm import synchronise
from saliency_gan.compute.devices import make_fabric, mean_over_processes
from saliency_gan.compute.processes import own_parts
from saliency_gan.config import DiscoverConfig
from saliency_gan.config.discover import Schedule
from saliency_gan.directions.deformator import Deformator
from saliency_gan.directions.reconstructor import Reconstructor, load_reconstructor
from saliency_gan.directions.shifts import ShiftSample, ShiftSampler, draw_both
from saliency_gan.errors import UserError
from saliency_gan.generators.base import Generator
from saliency_gan.results.directions import load_directions
from saliency_gan.runs.random_streams import Stream, random_stream

METRICS = ("loss", "loss_direction", "loss_shift", "accuracy", "mae")


class DiscoveryTrainer:
    """Holds A, R and their optimisers, and does the training steps on a frozen generator.

    Args:
        config: The stage's settings.
        generator: G; it is frozen and moved to the device.
    """

    def __init__(self, config: DiscoverConfig, generator: Generator) -> None:
        self.parts = own_parts(config.batch, config.accumulate)
        torch.manual_seed(config.seed)  # torchvision initialises R from the global random generator
        deformator = Deformator(
            config.deformator, generator.latent_dim, config.K, random_stream(config.seed, Stream.DEFORMATOR)
        )
        reconstructor = Reconstructor(config.reconstructor, config.K, generator.channels)
        self.config = config
        self.fabric = make_fabric(config.device, config.precision)
        self.generator = generator.freeze().to(self.fabric.device)
        if config.compile:
            self.generator.compile()
            reconstructor.compile()
        self.among = generator.class_indices(config.classes)
        self.sampler = ShiftSampler(
            self.generator, self.among, config.K, config.max_shift, config.min_shift, self.fabric.device
        )
        self.deformator, self.deformator_optimiser = self._set_up(deformator, config.lr_deformator)
        self.reconstructor, self.reconstructor_optimiser = self._set_up(reconstructor, config.lr_reconstructor)
        both = (
            (self.deformator, self.deformator_optimiser, config.lr_deformator),
            (self.reconstructor, self.reconstructor_optimiser, config.lr_reconstructor),
        )
        self.trained = [(module, optimiser, rate) for module, optimiser, rate in both if optimiser]
        self.totals = torch.zeros(1 + len(METRICS), device=self.fabric.device)  # steps, then sums of METRICS
        self.step = 0

    def _set_up(self, module: nn.Module, rate: float) -> tuple[Any, Any]:
        """Returns the module and its optimiser on the device. A fixed A gets no optimiser."""
        module = synchronise(module, self.fabric.device).to(memory_format=torch.channels_last)
        if not any(parameter.requires_grad for parameter in module.parameters()):
            return module.to(self.fabric.device), None
        optimiser = torch.optim.Adam(module.parameters(), lr=rate, fused=self.fabric.device.type != "mps")
        return self.fabric.setup(module, optimiser)

    def start_from(self, folder: Path) -> None:
        """Begins with A and R of a finished run; the optimisers start without state. If the folder has no R of this
        kind, R begins at random.

        Raises:
            UserError: If the directions or R are damaged, or A is of another size or kind.
        """
        found = load_directions(folder)
        matrix = found.matrix[:, : found.config.get("K", found.matrix.shape[1])]
        shape = (self.generator.latent_dim, self.config.K)
        if matrix.shape != shape:
            raise UserError(
                f"{folder} holds an A of {matrix.shape[0]} x {matrix.shape[1]} numbers, but {self.generator.name} and"
                f" --K {self.config.K} need {shape[0]} x {shape[1]}: leave --start out, or give its generator and K."
            )
        self.deformator.module.start_from(matrix.to(self.fabric.device))
        if not load_reconstructor(self.reconstructor.module, folder / "reconstructor.safetensors"):
            print(f"{folder} has no {self.config.reconstructor} R of this K, so R begins at random.")

    def train_step(self) -> None:
        """Updates A and R on new pairs and adds this step's metrics to `totals`."""
        sample = self.sampler.draw(self.config.batch, random_stream(self.config.seed, Stream.DISCOVERY_STEP, self.step))
        for _, optimiser, rate in self.trained:
            optimiser.zero_grad()
            for group in optimiser.param_groups:
                group["lr"] = rate * rate_factor(self.config.schedule, self.step, self.config.steps)
        measured = torch.zeros_like(self.totals)
        for part in self.parts:
            with ExitStack() as stack:  # processes exchange gradients once per step
                for module, *_ in self.trained:
                    stack.enter_context(self.fabric.no_backward_sync(module, enabled=part != self.parts[-1]))
                losses = self._losses(sample.part(part))
                self.fabric.backward(losses["loss"] / len(self.parts))
            one = torch.ones_like(losses["loss"])
            measured += torch.stack([one, *(losses[name] for name in METRICS)]).detach() / len(self.parts)
        measured = mean_over_processes(measured)
        for _, optimiser, _ in self.trained:
            optimiser.step()
        self.step += 1
        self.totals += measured

    def _losses(self, sample: ShiftSample) -> dict[str, Tensor]:
        with self.fabric.autocast():
            originals, shifted = draw_both(self.generator, self.deformator, sample)
            logits, shifts = self.reconstructor(originals, shifted)
        return discovery_loss(
            logits, shifts, sample.directions, sample.shifts, self.config.regression_weight, self.config.regression_loss
        )

    def mean_metrics(self) -> dict[str, float]:
        """Means of METRICS over the steps since the last call."""
        steps, *sums = self.totals.tolist()
        self.totals.zero_()
        return {name: total / steps for name, total in zip(METRICS, sums, strict=True)}

    def state(self) -> dict[str, Any]:
        """Returns everything needed to resume. Random streams depend only on the seed and the step."""
        return {
            "step": self.step,
            "steps": self.config.steps,
            "generator_sha256": self.generator.sha256,
            "totals": self.totals,
            **{name: part.state_dict() for name, part in self._parts().items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores `state()`.

        Raises:
            UserError: If the checkpoint belongs to another generator, or if its learning rate falls
                along a cosine of another length.
        """
        if state.get("generator_sha256") != self.generator.sha256:
            raise UserError(
                f"{self.config.run}/discover was begun on other weights than those of {self.generator.name}"
                f" ({self.generator.sha256[:12]}): give back the first generator or choose another folder with --run."
            )
        if self.config.schedule == "cosine" and state.get("steps") != self.config.steps:
            raise UserError(
                f"The learning rate of {self.config.run}/discover falls along a cosine of {state.get('steps')} steps,"
                " so it cannot go on with another number of --steps: give the same number, or begin anew with --run."
            )
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.totals.copy_(state["totals"])
        self.step = state["step"]

    def _parts(self) -> dict[str, Any]:
        parts = {
            "deformator": self.deformator,
            "reconstructor": self.reconstructor,
            "deformator_optimiser": self.deformator_optimiser,
            "reconstructor_optimiser": self.reconstructor_optimiser,
        }
        return {name: part for name, part in parts.items() if part is not None}


def rate_factor(schedule: Schedule, step: int, steps: int) -> float:
    """What the learning rates are multiplied by in this step, in [0, 1]; `cosine` falls from 1 in step 0 to 0 after
    the last one."""
    return 1.0 if schedule == "constant" else 0.5 + 0.5 * math.cos(math.pi * step / steps)


def discovery_loss(
    logits: Tensor, predicted: Tensor, directions: Tensor, shifts: Tensor, weight: float, regression: str
) -> dict[str, Tensor]:
    """L_cl(k, k^) + lambda L_r(eps, eps^), Voynov & Babenko 2020, equation 1.

    Args:
        logits: R's logits for k, float [N, K], not in half precision.
        predicted: R's prediction of eps, float [N], likewise.
        directions: k, int64 [N].
        shifts: eps, float [N].
        weight: lambda.
        regression: mae for the mean absolute error, mse for the mean squared error.

    Returns:
        Scalars with the names in METRICS; `loss` is the one to minimise.
    """
    loss_direction = F.cross_entropy(logits, directions)
    mae = F.l1_loss(predicted, shifts)
    loss_shift = mae if regression == "mae" else F.mse_loss(predicted, shifts)
    return {
        "loss": loss_direction + weight * loss_shift,
        "loss_direction": loss_direction,
        "loss_shift": loss_shift,
        "accuracy": (logits.argmax(1) == directions).float().mean(),
        "mae": mae,
    }
