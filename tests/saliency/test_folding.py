import copy

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from saliency_gan.errors import UserError
from saliency_gan.saliency.folding import FoldedDecoderBlock, fold
from saliency_gan.saliency.model import SaliencyModel, fold_encoder
from saliency_gan.saliency.network import SaliencyArchitecture

LITE0 = "tu-tf_efficientnet_lite0"


@torch.no_grad()
def shake_norms(module: nn.Module) -> None:
    """Gives batch norms statistics and scales as after training, not 0 and 1."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.5, 2)
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0, 0.3)


def random_model(
    architecture: str = "Unet",
    encoder: str = "resnet18",
    channels: tuple[int, ...] = (16, 8, 8, 8),
    stride: int = 1,
    norms: bool = True,
) -> SaliencyModel:
    """A float64 model whose batch norms have statistics and scales as after training."""
    torch.manual_seed(0)
    sizes = SaliencyArchitecture(architecture, encoder, channels, output_stride=stride, encoder_norms=norms)  # type: ignore[arg-type]
    model = SaliencyModel(sizes).double().eval().requires_grad_(False)
    shake_norms(model)
    return model


@pytest.mark.parametrize(
    ("architecture", "encoder", "channels", "stride", "norms"),
    [
        ("Unet", "resnet18", (16, 8, 8, 8), 1, True),
        ("Unet", "mobilenet_v2", (16, 16, 8, 8, 8), 1, True),
        ("Unet", "mit_b0", (16, 16, 8, 8, 8), 1, True),  # has a skip connection of no channels
        ("UnetPlusPlus", "resnet18", (16, 8, 8, 8), 1, True),
        ("FPN", "resnet18", (), 1, True),
        ("Unet", LITE0, (16, 8, 8, 8), 2, False),  # as train-student builds it
        ("Unet", "resnet18", (16, 8), 4, False),
    ],
)
def test_a_folded_model_computes_the_same_without_batch_norms(
    architecture: str, encoder: str, channels: tuple[int, ...], stride: int, norms: bool
) -> None:
    model = random_model(architecture, encoder, channels, stride, norms)
    images = torch.rand(3, 3, 64, 96, dtype=torch.float64) * 2 - 1
    expected = model(images)
    folded = fold(model)
    torch.testing.assert_close(folded(images), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model(images), expected, rtol=0, atol=0)
    assert not any(isinstance(module, Conv2dSame) for module in folded.modules())  # their maps would be padded first
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


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2", "timm-efficientnet-b0", LITE0])
@torch.no_grad()
def test_an_encoder_without_norms_computes_what_it_did_with_them(encoder: str) -> None:
    torch.manual_seed(1)
    model = SaliencyModel(SaliencyArchitecture(encoder=encoder, decoder_channels=(8, 8, 8, 8, 8)))
    shake_norms(model.network.encoder)
    expected = copy.deepcopy(model.network.encoder).eval()
    fold_encoder(model.network.encoder, encoder)
    images = torch.randn(2, 3, 64, 96)
    for one, other in zip(model.network.encoder.eval()(images), expected(images), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.network.encoder.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.network.decoder.modules())
    fresh = SaliencyModel(SaliencyArchitecture(encoder=encoder, decoder_channels=(8, 8, 8, 8, 8), encoder_norms=False))
    assert fresh.state_dict().keys() == model.state_dict().keys()


def test_an_encoder_whose_norms_cannot_be_folded_is_refused() -> None:
    class Twice(nn.Module):
        """Uses what the convolution makes a second time, without the norm."""

        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
            made = self.convolution(images)
            return [images, self.norm(made) + made]

    encoder = Twice()
    shake_norms(encoder)
    with pytest.raises(UserError, match=r"norms of twice cannot.*--encoder_weights none"):
        fold_encoder(encoder, "twice")
