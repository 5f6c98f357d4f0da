import pytest
import torch

from saliency_gan.directions.reconstructor import Reconstructor


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
