"""Batch normalisation over the whole batch if each process has only a part of it."""

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from saliency_gan.compute.processes import join, world_size


def synchronise(module: nn.Module, device: torch.device) -> nn.Module:
    """Makes batch normalisation in `module` use the samples of all processes; without torchrun nothing changes.

    On GPUs this is torch's SyncBatchNorm, which has no CPU implementation; on CPUs it is `JointBatchNorm`. timm's batch
    norms keep the activation that is part of them.
    """
    if world_size() == 1:
        return module
    join()
    from timm.layers import BatchNormAct2d, convert_sync_batchnorm  # takes a second to import

    if device.type == "cuda":
        return convert_sync_batchnorm(module)
    for norm in module.modules():  # the same parameters and buffers under the same names
        if type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d):
            norm.__class__ = JointBatchNorm
        elif type(norm) is BatchNormAct2d:
            norm.__class__ = JointBatchNormAct  # type: ignore[assignment]
    return module


class JointBatchNorm(_BatchNorm):
    """Batch normalisation with mean and variance over the samples of all processes; gradients pass through both.

    Every process must have the same number of samples.
    """

    def forward(self, values: Tensor) -> Tensor:
        """Normalises float [N, C] or [N, C, H, W]; evaluation mode works as in torch."""
        if not self.training:
            return super().forward(values)
        exact = values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
        others = [dimension for dimension in range(values.dim()) if dimension != 1]
        shape = [1, -1, *[1] * (values.dim() - 2)]
        mean = _average(exact.mean(others))
        centred = exact - mean.view(shape)
        variance = _average(centred.square().mean(others))
        self._remember(mean, variance, world_size() * values.numel() // values.shape[1])
        normalised = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(values.dtype)

    def _check_input_dim(self, _: Tensor) -> None:
        """Accepts any shape."""

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Updates the running statistics as torch does, with the unbiased variance."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), weight)
        self.running_var.lerp_((variance * count / max(1, count - 1)).to(self.running_var), weight)


class JointBatchNormAct(JointBatchNorm):
    """timm's BatchNormAct2d as a JointBatchNorm."""

    drop: nn.Module
    act: nn.Module

    def forward(self, values: Tensor) -> Tensor:
        """Normalises as JointBatchNorm does, then applies timm's dropout and activation."""
        activated: Tensor = self.act(self.drop(super().forward(values)))
        return activated


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _average(values: Tensor) -> Tensor:
    return _Sum.apply(values) / world_size()


class _Sum(torch.autograd.Function):
    """The sum over the processes. The loss of each process depends on it, so its gradient is the sum of their
    gradients."""

    @staticmethod
    def forward(_: object, values: Tensor) -> Tensor:
        summed = values.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(_: object, gradient: Tensor) -> Tensor:
        summed = gradient.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(summed)
        return summed
