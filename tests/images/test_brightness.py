import numpy as np
import pytest
import torch

from saliency_gan.images.brightness import brightness


@pytest.mark.parametrize("shape", [(3, 5, 6), (4, 3, 5, 6), (2, 4, 1, 5, 6)])
def test_brightness_is_the_mean_of_the_colours_from_0_to_1(shape: tuple[int, ...]) -> None:
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = ((images.double().numpy() + 1) / 2).mean(axis=-3)
    np.testing.assert_allclose(brightness(images).numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(brightness(images, "dark").numpy(), 1 - expected, atol=1e-6)
