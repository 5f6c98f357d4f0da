import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

from saliency_gan.encoders.frozen import FrozenEncoder
from saliency_gan.encoders.pretrained import load_packaged_weights, simplify
from saliency_gan.runs.random_streams import random_stream

NAME = "tu-tf_efficientnet_lite1"


def images(count=2, channels=3, side=32):
    return torch.rand(count, channels, side, side, generator=random_stream(0)) * 2 - 1


def test_maps_are_those_of_the_library_with_its_norms():
    reference = smp.encoders.get_encoder(NAME, depth=5, weights=None)
    simplify(reference)
    load_packaged_weights(reference, NAME)
    stretched = F.interpolate(images(), (64, 64), mode="bilinear")
    with torch.no_grad():
        expected = reference.eval()(stretched)[-4:]  # this network takes [-1, 1]
    frozen = FrozenEncoder(NAME, 64)
    maps = frozen(images())
    assert [tuple(one.shape) for one in maps] == [
        (2, width, 64 // s, 64 // s) for width, s in zip(frozen.widths, (4, 8, 16, 32), strict=True)
    ]
    for one, other in zip(maps, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()))


def test_nothing_is_trained_and_gradients_reach_the_images():
    frozen = FrozenEncoder(NAME, 64)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    shown = images().requires_grad_()
    sum(one.square().mean() for one in frozen(shown)).backward()
    assert shown.grad.abs().min(dim=0).values.max() > 0 and shown.grad.isfinite().all()


def test_grey_images_are_seen_as_colour():
    frozen = FrozenEncoder(NAME, 32)
    grey = images(channels=1)
    for one, other in zip(frozen(grey), frozen(grey.expand(-1, 3, -1, -1)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
