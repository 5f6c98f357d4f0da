"""Measures on pairs G(z, c), G(z + s h, c) whether shifted images are good for making masks."""

from collections.abc import Mapping
from math import exp, log

import torch
import torch.nn.functional as F
from torch import Tensor

from saliency_gan.images import otsu
from saliency_gan.images.brightness import Polarity, brightness

SANE_AREA = (0.05, 0.60)
"""Share of the image that a useful mask covers."""
HISTOGRAM_BINS = 64

CRITERIA = {
    "border": "how bright the border of the shifted image is (how dark, for polarity dark)",
    "flat": "how even the border is: 1 - 2 x standard deviation of its brightness",
    "gain": "share of the brightness that the border lacked before and has now",
    "contrast": "brightness of the border minus brightness of the centre",
    "edges": "share of the gradient magnitude of G(z, c) that the centre keeps",
    "outline": "gradient magnitude of G(z, c) on the mask's outline, as a share of that plus the one elsewhere",
    "bimodal": "Otsu's separability of the brightness histogram: variance between two classes / total variance",
    "area": "share of images whose mask covers 5 to 60 %",
    "steady": "how alike the border is over z and c: 1 - 2 x standard deviation of its mean brightness",
    "works": "share of images with a sane area, a border that is nearly all background and at least half of the edges",
}
"""The parts of a score, each in [0, 1]; 1 is best."""


def combine(parts: Mapping[str, float]) -> float:
    """The geometric mean of the parts, in [0.01, 1]. A good part cannot make up for a bad one."""
    return exp(sum(log(max(value, 0.01)) for value in parts.values()) / len(parts))


def measure_criteria(originals: Tensor, shifted: Tensor, theta: float, polarity: Polarity) -> list[dict[str, float]]:
    """Measures every criterion for M shifts at once.

    Args:
        originals: G(z, c), float [N, channels, H, W] in [-1, 1].
        shifted: G(z + s h, c) of M shifts, float [M, N, channels, H, W] in [-1, 1].
        theta: Pixels of this brightness in [0, 1] or more are background.
        polarity: bright, or dark to measure the negatives.

    Returns:
        One dict per shift: name in CRITERIA -> value in [0, 1].
    """
    before, after = brightness(originals, polarity), brightness(shifted, polarity)
    border_before, border_after = border(before), border(after)
    edges_before, edges_after = gradient_magnitude(centre(before)), gradient_magnitude(centre(after))
    kept = torch.minimum(edges_before, edges_after).mean((-1, -2)) / edges_before.mean((-1, -2)).clamp(min=1e-6)
    mask = (after < theta).float()
    area = mask.mean((-1, -2))
    sane = (area >= SANE_AREA[0]) & (area <= SANE_AREA[1])
    clear = (border_after >= theta).float().mean(-1) >= 0.8
    level = border_after.mean(-1)
    missing = (1 - border_before).mean()
    parts = {
        "border": level.mean(1),
        "flat": 1 - 2 * border_after.std(-1, correction=0).mean(1),
        "gain": (border_after - border_before).mean((-1, -2)) / missing.clamp(min=1e-6),
        "contrast": (level - centre(after).mean((-1, -2))).mean(1),
        "edges": kept.mean(1),
        "outline": _outline_contrast(before, mask).mean(1),
        "bimodal": _separability(after).mean(1),
        "area": sane.float().mean(1),
        "steady": 1 - 2 * level.std(1, correction=0),
        "works": (sane & clear & (kept >= 0.5)).float().mean(1),
    }
    rows = torch.stack([parts[name] for name in CRITERIA], dim=1).clamp(0, 1).tolist()
    return [dict(zip(CRITERIA, row, strict=True)) for row in rows]


def border(grey: Tensor) -> Tensor:
    """The outermost eighth of each side: [..., pixels] of [..., H, W] with H = W."""
    side = grey.shape[-1]
    width = max(1, side // 8)
    outside = torch.ones(side, side, dtype=torch.bool, device=grey.device)
    outside[width:-width, width:-width] = False
    return grey[..., outside]


def centre(grey: Tensor) -> Tensor:
    """The inner half of the width and of the height: [..., H / 2, W / 2] of [..., H, W] with H = W."""
    margin = grey.shape[-1] // 4
    return grey[..., margin:-margin, margin:-margin]


def gradient_magnitude(grey: Tensor) -> Tensor:
    """Sobel gradient magnitude in brightness per pixel, float [..., H, W]; the border is padded by replication."""
    smooth, slope = grey.new_tensor([1.0, 2.0, 1.0]) / 4, grey.new_tensor([-1.0, 0.0, 1.0]) / 2
    kernels = torch.stack([smooth[:, None] * slope, slope[:, None] * smooth])[:, None]
    planes = grey.reshape(-1, 1, *grey.shape[-2:])
    gradient = F.conv2d(F.pad(planes, (1, 1, 1, 1), mode="replicate"), kernels)
    return gradient.square().sum(1).add(1e-12).sqrt().reshape(grey.shape)


def _separability(grey: Tensor) -> Tensor:
    """Otsu's separability of brightness [M, N, H, W] in [0, 1]: [M, N] in [0, 1]."""
    bins = grey.flatten(0, 1).mul(HISTOGRAM_BINS).long().clamp(0, HISTOGRAM_BINS - 1)
    _, separability = otsu.split(otsu.histograms(bins, HISTOGRAM_BINS))
    return separability.to(grey).unflatten(0, grey.shape[:2])


def _outline_contrast(grey: Tensor, mask: Tensor) -> Tensor:
    """a / (a + b) of masks [M, N, H, W], as [M, N]: a is the mean gradient on a mask's outline, b the mean elsewhere.

    It is 0 for a mask without an outline.
    """
    magnitude = gradient_magnitude(grey)
    outline = (F.max_pool2d(mask.flatten(0, 1), 3, 1, 1) + F.max_pool2d(-mask.flatten(0, 1), 3, 1, 1)).view_as(mask)
    on = (magnitude * outline).sum((-1, -2)) / outline.sum((-1, -2)).clamp(min=1)
    off = (magnitude * (1 - outline)).sum((-1, -2)) / (1 - outline).sum((-1, -2)).clamp(min=1)
    return on / (on + off).clamp(min=1e-6)
