"""One step of training: loss, optimiser, averaged weights and the averaged weights' batch statistics."""

import copy
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from torch import Tensor

from saliency_gan.compute.averaging import measure_statistics, update_average
from saliency_gan.compute.batch_norm import synchronise
from saliency_gan.compute.devices import mean_over_processes
from saliency_gan.errors import UserError
from saliency_gan.images import ImageArray
from saliency_gan.images.tensors import to_signed
from saliency_gan.saliency.model import SaliencyModel

Loss = Literal["bce", "bce+dice", "bce+iou", "iou", "paper"]


class Learner:
    """A saliency model, its optimiser, and the moving average of its weights.

    Args:
        model: Where training starts.
        fabric: Device and precision.
        loss: As `saliency_loss`.
        optimiser: adamw or adam.
        weight_decay: Weight decay of adamw.
        ema: Decay per step of the averaged weights.
        accumulate: Parts that a batch is done in, one after the other.
        compile: Compile the model that is trained, though not the averaged one.
        encoder_lr: The encoder's learning rate as a share of that of the other layers.
        frozen_stride: Layers of the encoder that its map of this stride is computed from stay as they are; 1 trains
            all, and a power of 2 up to 32 is possible.

    Attributes:
        average: The averaged model, whose batch statistics `measure_statistics` sets.
        step: Steps done.
    """

    def __init__(
        self,
        model: SaliencyModel,
        fabric: Fabric,
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
        """Does one step.

        Args:
            images: This process's part of the batch, uint8 [N, H, W, 3]; N is a multiple of `accumulate`.
            masks: uint8 [N, H, W], 0 to 255.
            rate: Learning rate.

        Returns:
            The loss over the whole batch, without a graph.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        self.optimiser.zero_grad()
        torch.manual_seed(self.step)  # some networks drop values at random: a resumed run drops the same
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
        """Sets the averaged model's batch-norm statistics to their mean over batches of uint8 [N, H, W, 3]."""
        with self.fabric.autocast():
            measure_statistics(self.average, ((self._inputs(batch),) for batch in batches))

    def state(self) -> dict[str, Any]:
        """Everything needed to go on."""
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
    """Freezes the layers of the encoder that its map of a stride is computed from; none for stride 1.

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
    if not reached[stride].requires_grad:  # no layer is before it: some encoders have an empty map
        return
    parameters = list(encoder.parameters())
    gradients = torch.autograd.grad(reached[stride].sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is None)


def _parameter_groups(model: SaliencyModel, encoder_lr: float) -> list[dict[str, Any]]:
    """What is trained, with the share of the learning rate that it is trained at."""
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
        logits: Of the foreground, float [N, 1, H, W].
        targets: Float [N, 1, H, W] in [0, 1].
        kind: What is compared. bce is the binary cross-entropy; dice is 1 minus the Dice coefficient and iou 1 minus
            intersection over union, both as means over images, so that small objects count as much as large ones.
            paper is bce, which on the difference of two logits over 10 is the paper's softmax cross-entropy.

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
    """Step decay: `start` times `factor` for every drop, a share of `steps`, that `step` has reached."""
    return start * factor ** sum(step >= drop * steps for drop in drops)


def one_cycle(step: int, steps: int, highest: float, warm_up: float = 0.1) -> float:
    """Rises from a tenth to `highest` during the first share `warm_up` of all steps, then falls to 0 along a cosine."""
    done = step / steps
    if done < warm_up:
        return highest * (0.1 + 0.9 * done / warm_up)
    return highest * (0.5 + 0.5 * math.cos(math.pi * (done - warm_up) / (1 - warm_up)))
