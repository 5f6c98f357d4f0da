import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from saliency_gan.compute.batch_norm import JointBatchNorm, synchronise
from saliency_gan.compute.processes import rank
from tests.jobs import run_job

CPU = torch.device("cpu")


def _samples(flat: bool) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    images = torch.randn(6, 3, 4, 5, generator=random, dtype=torch.float64) * 3 + torch.arange(3.0)[:, None, None] * 10
    return images[:, :, 0, 0] if flat else images


def _pass(norm: nn.Module, samples: torch.Tensor) -> dict[str, torch.Tensor]:
    """Two steps through a loss that weighs every value differently."""
    for _ in range(2):
        samples = samples.detach().requires_grad_(True)
        output = norm(samples)
        output.pow(3).sum().backward()
    assert samples.grad is not None
    gradients = {name: parameter.grad for name, parameter in norm.named_parameters()}
    return {"output": output.detach(), "input": samples.grad, **gradients, **dict(norm.named_buffers())}


def _norm(flat: bool, affine: bool, momentum: float | None) -> nn.Module:
    kind = nn.BatchNorm1d if flat else nn.BatchNorm2d
    return kind(3, affine=affine, momentum=momentum).double()


def _joint_pass(flat: bool, affine: bool, momentum: float | None) -> dict:
    norm = synchronise(nn.Sequential(_norm(flat, affine, momentum)), CPU)[0]
    assert type(norm) is JointBatchNorm
    found = _pass(norm, _samples(flat).split(3)[rank()])
    norm.eval()
    found["evaluated"] = norm(_samples(flat)).detach()
    return {name: tensor.numpy() for name, tensor in found.items()}


@pytest.mark.parametrize(("flat", "affine", "momentum"), [(False, True, 0.1), (False, False, None), (True, True, 0.3)])
def test_two_halves_are_normalised_as_one_batch(flat, affine, momentum):
    norm = _norm(flat, affine, momentum)
    whole = _pass(norm, _samples(flat))
    halves = run_job(_joint_pass, flat, affine, momentum)
    for name in ("output", "input"):
        joined = torch.cat([torch.from_numpy(half[name]) for half in halves])
        torch.testing.assert_close(joined, whole[name], atol=1e-9, rtol=1e-9)
    for name in ("weight", "bias")[: 2 * affine]:  # what DDP averages are the halves' shares of it
        summed = sum(torch.from_numpy(half[name]) for half in halves)
        torch.testing.assert_close(summed, whole[name], atol=1e-9, rtol=1e-9)
    for half in halves:
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            torch.testing.assert_close(torch.from_numpy(half[name]), whole[name], atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(torch.from_numpy(half["evaluated"]), norm.eval()(_samples(flat)).detach())


def _joint_pass_with_activation() -> dict:
    module = nn.Sequential(BatchNormAct2d(3, act_layer=nn.SiLU).double())
    return {
        name: tensor.numpy()
        for name, tensor in _pass(synchronise(module, CPU)[0], _samples(False).split(3)[rank()]).items()
    }


def test_timms_norms_keep_their_activation():
    whole = _pass(BatchNormAct2d(3, act_layer=nn.SiLU).double(), _samples(False))
    halves = run_job(_joint_pass_with_activation)
    joined = torch.cat([torch.from_numpy(half["output"]) for half in halves])
    torch.testing.assert_close(joined, whole["output"], atol=1e-9, rtol=1e-9)


def test_without_torchrun_nothing_is_changed():
    module = nn.Sequential(nn.BatchNorm2d(3))
    assert synchronise(module, CPU) is module and type(module[0]) is nn.BatchNorm2d
