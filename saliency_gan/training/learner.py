"""Training steps of a saliency model: loss, optimiser, EMA weights and the batch statistics of the EMA model."""

import copy
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from saliency_gan.compute.averaging import measure_statistics, update_average
from saliency_gan.compute.batch_norm import synchronise
from saliency_gan.compute.devices import mean_over_processes
from saliency_gan.errors import UserError
from saliency_gan.images import ImageArray
from saliency_gan.images.tensors import to_signed
from saliency_gan.saliency.model import SaliencyModel

if TYPE_CHECKING:
    from lightning_fabric import Fabric

WARM_UP = 0.1
"""Share of the steps in which `one_cycle` rises."""
Loss = Literal["bce", "bce+dice", "bce+iou", "iou", "paper"]


class Learner:
    """A saliency model, its optimiser, and the exponential moving average (EMA) of its weights.

    Args:
        model: Initial model.
        fabric: Device and precision.
        loss: As `kind` of `saliency_loss`.
        optimiser: adamw or adam.
        weight_decay: Weight decay of adamw.
        ema: EMA decay per step.
        accumulate: Number of gradient accumulation steps per batch.
        compile: Whether to compile the trained model. The EMA model is not compiled.
        encoder_lr: Learning rate of the encoder as a share of that of the other layers.
        frozen_stride: The encoder's layers up to its map of this stride are frozen: a power of 2 up to 32; 1 freezes no
            layer.

    Attributes:
        average: The EMA model; `measure_statistics` sets its batch statistics.
        step: Number of finished steps.
    """

    def __init__(
        self,
        model: SaliencyModel,
        fabric: "Fabric",
        loss: Loss = "bce+dice",
        optimiser: Literal["adamw", "adam"] = "adamw",
        weight_decay: float = 0.0,
        ema: float = 0.998,
        accumulate: int = 1,
        compile: bool = False,
        encoder_lr: float = 1.0,
        frozen_stride: int = 1,
    ) -> None:
        model = model.to(memory_format=torch.channels_last).train().requires_grad_(True)
        freeze(model, frozen_stride)
        self.fabric, self.loss, self.ema, self.accumulate, self.step = fabric, loss, ema, accumulate, 0
        self.average = copy.deepcopy(model).to(fabric.device).eval().requires_grad_(False)
        synchronise(model, fabric.device)
        if compile:
            model.compile()
        kind, decay = (torch.optim.AdamW, weight_decay) if optimiser == "adamw" else (torch.optim.Adam, 0.0)
        fused = fabric.device.type != "mps"
        groups = _parameter_groups(model, encoder_lr)
        self.model, self.optimiser = fabric.setup(model, kind(groups, weight_decay=decay, fused=fused))

    def learn(self, images: ImageArray, masks: ImageArray, rate: float) -> Tensor:
        """Does one training step.

        Args:
            images: This process's part of the batch, uint8 [N, H, W, 3]; N is a multiple of `accumulate`.
            masks: uint8 [N, H, W], 0 to 255.
            rate: Learning rate.

        Returns:
            Mean loss over the whole batch, without a graph.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        self.optimiser.zero_grad()
        torch.manual_seed(self.step)  # for dropout: a resumed run drops the same values
        mean = torch.zeros((), device=self.fabric.device)
        parts = zip(np.split(images, self.accumulate), np.split(masks, self.accumulate), strict=True)
        for number, (some_images, some_masks) in enumerate(parts, 1):
            with self.fabric.no_backward_sync(self.model, enabled=number < self.accumulate):
                loss = self._loss(some_images, some_masks) / self.accumulate
                self.fabric.backward(loss)
            mean = mean + loss.detach()
        mean = mean_over_processes(mean)
        self.optimiser.step()
        self.step += 1
        update_average(self.average, self.model, self.ema, self.step)
        return mean

    def _inputs(self, images: ImageArray) -> Tensor:
        return to_signed(images, self.fabric.device).contiguous(memory_format=torch.channels_last)

    def _loss(self, images: ImageArray, masks: ImageArray) -> Tensor:
        logits = self.model(self._inputs(images))
        targets = torch.from_numpy(masks)[:, None].to(logits).div(255)
        return saliency_loss(logits, targets, self.loss)

    def measure_statistics(self, batches: Iterable[ImageArray]) -> None:
        """Sets the EMA model's batch-norm statistics to their mean over batches of uint8 [N, H, W, 3].

        The same batches give the same statistics, also if the model drops activations at random.
        """
        torch.manual_seed(self.step)
        with self.fabric.autocast():
            measure_statistics(self.average, ((self._inputs(batch),) for batch in batches))

    def state(self) -> dict[str, Any]:
        """Returns everything needed to resume."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores `state()`."""
        self.step = state["step"]
        for name in ("model", "average", "optimiser"):
            getattr(self, name).load_state_dict(state[name])


def freeze(model: SaliencyModel, stride: int) -> None:
    """Freezes the layers of the encoder up to its map of this stride; stride 1 freezes no layer.

    Raises:
        UserError: If the encoder has no map of that stride.
    """
    if stride == 1:
        return
    encoder: Any = model.network.encoder
    encoder.eval()
    maps = encoder(torch.zeros(1, 3, 64, 64, device=model.mean.device))
    encoder.train(model.training)
    reached = {64 // one.shape[-1]: one for one in maps}
    if stride not in reached:
        raise UserError(
            f"frozen_stride is {stride}, but the deepest map of {model.architecture.encoder} has stride {max(reached)}"
            " here: choose that or less."
        )
    if not reached[stride].requires_grad:  # no layer comes before it: some encoders have an empty map
        return
    parameters = list(encoder.parameters())
    gradients = torch.autograd.grad(reached[stride].sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is None)


def _parameter_groups(model: SaliencyModel, encoder_lr: float) -> list[dict[str, Any]]:
    """Groups the trained parameters; "share" is each group's factor of the learning rate."""
    encoder: Any = model.network.encoder
    inside = {id(parameter) for parameter in encoder.parameters()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [one for one in trained if id(one) not in inside], "share": 1.0},
        {"params": [one for one in trained if id(one) in inside], "share": encoder_lr},
    ]
    return [group for group in groups if group["params"]]


def saliency_loss(logits: Tensor, targets: Tensor, kind: Loss) -> Tensor:
    """Compares predicted logits with masks.

    Args:
        logits: Logits of the foreground, float [N, 1, H, W].
        targets: Masks, float [N, 1, H, W] in [0, 1].
        kind: Loss terms. bce is the binary cross-entropy. dice is 1 minus the Dice coefficient, and iou is 1 minus
            intersection over union; both are means over images, so that small objects count as much as large ones.
            paper is the same as bce: for (difference of two logits) / 10, bce is the paper's softmax cross-entropy.

    Returns:
        A scalar.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, targets)
    if kind in ("bce", "paper"):
        return entropy
    saliency = logits.sigmoid()
    overlap = (saliency * targets).sum((1, 2, 3))
    total = saliency.sum((1, 2, 3)) + targets.sum((1, 2, 3))
    if kind == "bce+dice":
        return entropy + 1 - ((2 * overlap + 1) / (total + 1)).mean()
    jaccard = 1 - ((overlap + 1) / (total - overlap + 1)).mean()
    return jaccard if kind == "iou" else entropy + jaccard


def learning_rate(step: int, steps: int, start: float, drops: Sequence[float], factor: float) -> float:
    """Step decay: `start` is multiplied by `factor` at every drop. A drop is a share of `steps`."""
    return start * factor ** sum(step >= drop * steps for drop in drops)


def one_cycle(step: int, steps: int, highest: float) -> float:
    """Learning rate that rises from `highest` / 10 to `highest` in the first WARM_UP of the steps, then a cosine.

    The cosine falls to 0.
    """
    done = step / steps
    if done < WARM_UP:
        return highest * (0.1 + 0.9 * done / WARM_UP)
    return highest * (0.5 + 0.5 * math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))
