import pytest
import torch
from torch import nn

from saliency_gan.saliency.folding import FoldedDecoderBlock, fold
from saliency_gan.saliency.model import SaliencyArchitecture, SaliencyModel


def random_model(architecture: str = "Unet", encoder: str = "resnet18", channels: tuple[int, ...] = (16, 8, 8, 8)):
    """A float64 model whose batch norms have statistics and scales as after training, not 0 and 1."""
    torch.manual_seed(0)
    model = SaliencyModel(SaliencyArchitecture(architecture, encoder, channels)).double().eval().requires_grad_(False)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.5, 2)
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0, 0.3)
    return model


@pytest.mark.parametrize(
    ("architecture", "encoder", "channels"),
    [
        ("Unet", "resnet18", (16, 8, 8, 8)),
        ("Unet", "mobilenet_v2", (16, 16, 8, 8, 8)),
        ("Unet", "mit_b0", (16, 16, 8, 8, 8)),  # has a skip connection of no channels
        ("UnetPlusPlus", "resnet18", (16, 8, 8, 8)),
        ("FPN", "resnet18", ()),
    ],
)
def test_a_folded_model_computes_the_same_without_batch_norms(
    architecture: str, encoder: str, channels: tuple[int, ...]
) -> None:
    model = random_model(architecture, encoder, channels)
    images = torch.rand(3, 3, 64, 96, dtype=torch.float64) * 2 - 1
    expected = model(images)
    folded = fold(model)
    torch.testing.assert_close(folded(images), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model(images), expected, rtol=0, atol=0)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    blocks = sum(isinstance(module, FoldedDecoderBlock) for module in folded.modules())
    assert blocks == (len(channels) if architecture == "Unet" else 0)


def test_a_model_that_folding_would_change_stays_as_it_is() -> None:
    model = random_model()
    shared = model.network.decoder.blocks[2]
    shared.conv2 = nn.Sequential(shared.conv2[0], shared.conv2[1], shared.conv2[2], shared.conv2[0])
    images = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    folded = fold(model)
    assert folded is model
    assert torch.isfinite(folded(images)).all()
