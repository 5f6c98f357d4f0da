import pytest
import torch
import torch.nn.functional as F
from torchvision.models import resnet18

from saliency_gan.directions.reconstructor import Reconstructor, SmallMapConv2d


@pytest.mark.parametrize(
    ("kind", "channels", "side"), [("resnet18", 3, 16), ("resnet18", 3, 64), ("lenet", 1, 28), ("lenet", 3, 16)]
)
def test_two_heads(kind, channels, side):
    reconstructor = Reconstructor(kind, 7, channels).eval()
    images = torch.randn(4, channels, side, side)
    logits, shifts = reconstructor(images, images + 1)
    assert logits.shape == (4, 7)
    assert shifts.shape == (4,)


@pytest.mark.parametrize("kind", ["resnet18", "lenet"])
def test_tells_which_image_came_first(kind):
    torch.manual_seed(0)
    reconstructor = Reconstructor(kind, 5, 3).eval()
    first, second = torch.randn(2, 2, 3, 32, 32)
    assert not torch.allclose(reconstructor(first, second)[1], reconstructor(second, first)[1])


@pytest.mark.parametrize("kind", ["resnet18", "lenet"])
def test_every_weight_is_used(kind):
    reconstructor = Reconstructor(kind, 5, 3)
    logits, shifts = reconstructor(*torch.randn(2, 4, 3, 32, 32))
    (logits.square().sum() + shifts.square().sum()).backward()
    assert all(parameter.grad is not None for parameter in reconstructor.parameters())


def test_resnet18_is_torchvisions():
    """11,689,512 weights, less the 1000-class layer, plus 3 more input channels and the two heads."""
    count = sum(parameter.numel() for parameter in Reconstructor("resnet18", 120, 3).parameters())
    assert count == 11_689_512 - 1000 * 513 + 3 * 64 * 49 + 120 * 513 + 513


def test_resnet18_computes_what_torchvisions_does():
    torch.manual_seed(0)
    reconstructor = Reconstructor("resnet18", 7, 3).double().eval()
    images = torch.randn(2, 4, 3, 64, 64, dtype=torch.float64)
    plain = resnet18(weights=None).double().eval()
    plain.conv1, plain.fc = reconstructor.trunk.conv1, reconstructor.direction_head
    plain.load_state_dict(
        reconstructor.trunk.state_dict()
        | {f"fc.{name}": value for name, value in reconstructor.direction_head.state_dict().items()}
    )
    assert sum(isinstance(module, SmallMapConv2d) for module in reconstructor.modules()) == 3
    torch.testing.assert_close(reconstructor(*images)[0], plain(torch.cat([*images], dim=1)), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (4, 3)])
def test_convolution_of_a_small_map_and_its_gradients(height, width):
    torch.manual_seed(0)
    layer = SmallMapConv2d(5, 7, 3, padding=1, bias=False).double()
    features = torch.randn(3, 5, height, width, dtype=torch.float64, requires_grad=True)
    wanted = torch.randn(3, 7, height, width, dtype=torch.float64)
    result, expected = layer(features), F.conv2d(features, layer.weight, padding=1)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)
    for ours, theirs in zip(
        torch.autograd.grad(result, (features, layer.weight), wanted),
        torch.autograd.grad(expected, (features, layer.weight), wanted),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_lenet_is_lenet_5():
    """156 + 2,416 + 48,120 + 10,164 + 850 weights for one grey image and ten classes (LeCun et al. 1998, all of C3's
    connections); a second image adds 6 filters of 25, the second head 10,164 + 85, batch norm 2 numbers a channel."""
    count = sum(parameter.numel() for parameter in Reconstructor("lenet", 10, 1).parameters())
    assert count == 61_706 + 6 * 25 + 10_164 + 85 + 2 * (6 + 16 + 120 + 84 + 84)


def test_lenet_averages_the_places_of_a_larger_image():
    """A pair that repeats every 4 px gives LeNet the same features at every place, whatever its side."""
    torch.manual_seed(0)
    reconstructor = Reconstructor("lenet", 5, 1).double().eval()
    tile = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    small, large = tile.repeat(1, 1, 8, 8), tile.repeat(1, 1, 16, 16)
    torch.testing.assert_close(reconstructor(small, -small)[0], reconstructor(large, -large)[0])
