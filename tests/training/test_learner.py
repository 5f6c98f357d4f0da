import math

import numpy as np
import pytest
import torch
from torch import nn

from saliency_gan.compute.devices import make_fabric
from saliency_gan.encoders.pretrained import DepthwiseConv2d, SameDepthwiseConv2d
from saliency_gan.errors import UserError
from saliency_gan.saliency.model import SaliencyModel
from saliency_gan.saliency.network import SaliencyArchitecture
from saliency_gan.training.learner import Learner, freeze, learning_rate, one_cycle, saliency_loss
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


@pytest.mark.parametrize("kind", ["iou", "bce+iou"])
def test_iou_losses_are_those_of_a_loop(kind: str) -> None:
    rng = np.random.default_rng(3)
    logits, targets = rng.normal(size=(3, 1, 5, 4)) * 3, rng.random((3, 1, 5, 4))  # soft edges, too
    targets[2] = 0
    expected = 0.0
    for logit, target in zip(logits, targets, strict=True):
        overlap = union = 0.0
        for value, wanted in zip(logit.ravel(), target.ravel(), strict=True):
            saliency = 1 / (1 + math.exp(-value))
            overlap += saliency * wanted
            union += saliency + wanted - saliency * wanted
            if kind == "bce+iou":
                expected -= (wanted * math.log(saliency) + (1 - wanted) * math.log(1 - saliency)) / logits.size
        expected += (1 - (overlap + 1) / (union + 1)) / len(logits)
    loss = saliency_loss(torch.from_numpy(logits), torch.from_numpy(targets), kind)  # type: ignore[arg-type]
    assert float(loss) == pytest.approx(expected, abs=1e-12)


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


def test_one_cycle_rises_along_a_line_and_falls_along_a_cosine() -> None:
    rates = [one_cycle(step, 20, 2.0) for step in range(20)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[1] == pytest.approx(0.2 + 1.8 / 2)  # half of the warm-up, which is 2 steps long
    for step in range(2, 20):
        assert rates[step] == pytest.approx(2.0 * (1 + math.cos(math.pi * (step - 2) / 18)) / 2)
    assert max(rates) == rates[2] == 2.0
    assert 0 < rates[19] < 0.02
    assert one_cycle(0, 1, 3.0) == pytest.approx(0.3)


RESNET = [("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)]
"""Layers before the maps of stride 2, 4, 8, 16 and 32."""


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("norms", [True, False])
def test_the_layers_before_a_map_are_frozen(stride: int, norms: bool) -> None:
    model = SaliencyModel(SaliencyArchitecture(decoder_channels=(8, 8, 8, 8, 4), encoder_norms=norms))
    freeze(model, stride)
    before = [name for names in RESNET[: stride.bit_length() - 1] for name in names]
    for name, parameter in model.network.named_parameters():
        part, layer = name.split(".")[:2]
        assert parameter.requires_grad is not (part == "encoder" and layer in before), name


def test_what_is_frozen_is_what_reaches_the_map() -> None:
    """By perturbing every layer of another encoder: the map of stride 8 moves where a layer is before it."""
    sizes = SaliencyArchitecture(encoder="tu-tf_efficientnet_lite0", decoder_channels=(8, 8, 8, 4))
    torch.manual_seed(0)
    model = SaliencyModel(sizes).eval()
    freeze(model, 8)
    encoder, images = model.network.encoder, torch.rand(1, 3, 64, 64)
    frozen = 0
    with torch.no_grad():
        expected = next(one for one in encoder(images) if one.shape[-1] == 8)
        for name, parameter in encoder.named_parameters():
            kept = parameter.clone()
            parameter.add_(torch.randn_like(parameter))
            moved = not torch.equal(next(one for one in encoder(images) if one.shape[-1] == 8), expected)
            parameter.copy_(kept)
            assert moved is not parameter.requires_grad, name
            frozen += moved
    assert 20 < frozen < len(list(encoder.parameters())) - 20


def test_frozen_layers_stay_and_the_encoder_learns_slower() -> None:
    torch.manual_seed(0)
    fabric, model = make_fabric("cpu", "fp32"), SaliencyModel(TINY_ARCHITECTURE)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    learner = Learner(model, fabric, optimiser="adam", encoder_lr=0.1, frozen_stride=4)
    learner.learn(*discs(4), 0.01)
    assert [group["lr"] for group in learner.optimiser.param_groups] == pytest.approx([0.01, 0.001])
    moved = {name: float((one.detach() - before[name]).abs().max()) for name, one in model.named_parameters()}
    for name, distance in moved.items():  # Adam's first step is the learning rate, whatever the gradient
        frozen = name.startswith(("network.encoder.conv1", "network.encoder.bn1", "network.encoder.layer1"))
        rate = 0.001 if "encoder" in name else 0.01
        assert distance == (0 if frozen else pytest.approx(rate, rel=0.05)), name


def test_a_wholly_frozen_encoder_leaves_one_group() -> None:
    sizes = SaliencyArchitecture(decoder_channels=(8, 8, 8), resolution=32)
    learner = Learner(SaliencyModel(sizes), make_fabric("cpu", "fp32"), frozen_stride=8)
    assert [group["share"] for group in learner.optimiser.param_groups] == [1.0]
    with pytest.raises(UserError, match="frozen_stride is 16, but the deepest map of resnet18 has stride 8"):
        freeze(SaliencyModel(sizes), 16)


def test_an_encoder_without_a_layer_before_a_map_is_not_frozen() -> None:
    model = SaliencyModel(SaliencyArchitecture(encoder="mit_b0", decoder_channels=(8, 8, 8, 8, 4)))
    freeze(model, 2)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_what_a_network_drops_at_random_depends_on_the_step_alone() -> None:
    """FPN has a dropout: a run that goes on drops what an uninterrupted one drops."""
    pair, weights = discs(4), []
    for noise in (0, 7):
        torch.manual_seed(0)
        model = SaliencyModel(SaliencyArchitecture("FPN", decoder_channels=(), resolution=32))
        learner = Learner(model, make_fabric("cpu", "fp32"))
        for _ in range(2):
            torch.rand(noise)
            learner.learn(*pair, 0.01)
        weights.append([parameter.detach().clone() for parameter in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


def test_statistics_that_are_measured_again_are_the_same() -> None:
    model = SaliencyModel(SaliencyArchitecture("DeepLabV3Plus", decoder_channels=(), resolution=32))
    learner = Learner(model, make_fabric("cpu", "fp32"))
    measured = []
    for noise in (0, 7):
        torch.rand(noise)
        learner.measure_statistics([discs(4)[0]])
        measured.append([buffer.clone() for buffer in learner.average.buffers()])
    assert all(torch.equal(one, other) for one, other in zip(*measured, strict=True))


@pytest.mark.parametrize("kind", [DepthwiseConv2d, SameDepthwiseConv2d])
def test_a_depthwise_convolution_has_gradients_in_fp32_under_autocast(kind: type[nn.Conv2d]) -> None:
    torch.manual_seed(0)
    layer = kind(6, 6, 3, stride=2, groups=6, padding=0 if kind is SameDepthwiseConv2d else 1)
    images, ahead = torch.randn(2, 6, 15, 16), torch.randn(2, 6, 8, 8)
    padded = nn.functional.pad(images, (0, 1, 1, 1) if kind is SameDepthwiseConv2d else (1, 1, 1, 1))
    expected = torch.stack(
        [nn.functional.conv2d(padded[:, [k]], layer.weight[[k]], layer.bias[[k]], 2)[:, 0] for k in range(6)],  # type: ignore[index]
        dim=1,
    )
    gradient = torch.autograd.grad((expected * ahead).sum(), layer.weight)[0]
    with torch.autocast("cpu", torch.bfloat16):
        seen = layer(images.bfloat16().float())
        assert layer(images.bfloat16()).dtype == torch.float32
        torch.testing.assert_close(layer(images), expected)
        (layer(images) * ahead).sum().backward()
        assert seen.dtype == torch.float32
        with torch.no_grad():
            assert layer(images).dtype == torch.bfloat16  # where nothing is trained it is as fast as ever
        assert layer.requires_grad_(False)(images).dtype == torch.bfloat16
    assert layer.weight.grad is not None and layer.weight.grad.dtype == torch.float32
    torch.testing.assert_close(layer.weight.grad, gradient)
