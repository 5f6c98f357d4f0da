"""Random changes of image and mask. They make generated images as varied as photos."""

import os
import random as python_random
from typing import Literal

import cv2
import numpy as np
import torch

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else the import checks online for a newer version
import albumentations as A

from saliency_gan.images import ImageArray

Strength = Literal["none", "flips", "photos", "full"]


class Augmentation:
    """Applies the same random changes to an image and its mask, and resizes both to a square of `resolution` pixels.

    Args:
        strength: none only resizes. flips adds horizontal flips. photos adds flips, zooms, colour and blur. full adds
            flips, zooms and stronger changes of colour, sharpness and quality.
        resolution: Side of the result in pixels.
    """

    def __init__(self, strength: Strength, resolution: int) -> None:
        steps = [] if strength == "none" else _flips()
        if strength in ("photos", "full"):
            steps += _zooms(resolution)
        steps.append(A.Resize(resolution, resolution, area_for_downscale="image_mask"))
        if strength == "photos":
            steps += _lighting()
        elif strength == "full":
            steps += _colours() + _sharpness() + _damage()
        self._pipeline = A.Compose(steps, mask_interpolation=cv2.INTER_LINEAR)

    def __call__(self, image: ImageArray, mask: ImageArray, random: torch.Generator) -> tuple[ImageArray, ImageArray]:
        """Augments one pair; the same `random` state gives the same result.

        Args:
            image: uint8 [H, W, 3].
            mask: uint8 [H, W], 0 to 255.
            random: Random generator for all choices.

        Returns:
            uint8 [resolution, resolution, 3] and uint8 [resolution, resolution], 0 to 255 with soft edges.
        """
        # One shared state, because albumentations' set_random_seed would give every transform the same numbers. Then
        # flips, blur and colour would always change together.
        seeds = torch.randint(2**63 - 1, (2,), generator=random).tolist()
        self._pipeline.set_random_state(np.random.default_rng(seeds[0]), python_random.Random(seeds[1]))
        augmented = self._pipeline(image=image, mask=mask)
        return augmented["image"], augmented["mask"]


def _flips() -> list[A.BasicTransform]:
    return [A.HorizontalFlip(p=0.5)]


def _zooms(resolution: int) -> list[A.BasicTransform]:
    """Zoom-out or crop. Generated objects fill the image, but objects in photos often do not, so zoom-out helps."""
    zoom_out = [
        A.Affine(
            scale=(smallest, 1.0),
            keep_ratio=True,
            translate_percent=(-0.2, 0.2),
            rotate=(-12, 12),
            shear=(-6, 6),
            border_mode=border,
            p=weight,
        )
        for border, smallest, weight in ((cv2.BORDER_REPLICATE, 0.45, 0.75), (cv2.BORDER_REFLECT_101, 0.75, 0.25))
    ]
    crop = A.RandomResizedCrop(
        (resolution, resolution), scale=(0.5, 1.0), ratio=(0.7, 1.4), area_for_downscale="image_mask", p=1.0
    )
    return [A.OneOf([A.OneOf(zoom_out, p=1.0), crop], p=0.75)]


def _lighting() -> list[A.BasicTransform]:
    """Changes like those between photos of the same object."""
    return [
        A.ColorJitter(brightness=(0.7, 1.3), contrast=(0.7, 1.3), saturation=(0.5, 1.4), hue=(-0.02, 0.02), p=0.8),
        A.ToGray(p=0.1),
        A.GaussianBlur(sigma_limit=(0.3, 1.5), p=0.2),
    ]


def _colours() -> list[A.BasicTransform]:
    """Stronger colour changes. Inversion is used because "darker than theta" masks rarely contain white objects."""
    return [
        A.ColorJitter(brightness=(0.6, 1.4), contrast=(0.6, 1.4), saturation=(0.4, 1.6), hue=(-0.1, 0.1), p=0.8),
        A.ChannelShuffle(p=0.1),
        A.InvertImg(p=0.1),
        A.ToGray(p=0.2),
    ]


def _sharpness() -> list[A.BasicTransform]:
    """Blurs and sharpens, because generated images are less sharp than photos."""
    down_up = {"downscale": cv2.INTER_AREA, "upscale": cv2.INTER_LINEAR}
    softer = [A.Downscale(scale_range=(0.35, 0.9), interpolation_pair=down_up), A.GaussianBlur(sigma_limit=(0.3, 1.2))]
    return [A.OneOf(softer, p=0.5), A.UnsharpMask(blur_limit=(3, 5), alpha=(0.2, 0.7), threshold=0, p=0.25)]


def _damage() -> list[A.BasicTransform]:
    return [
        A.GaussNoise(std_range=(0.01, 0.06), p=0.2),
        A.ImageCompression(quality_range=(30, 95), p=0.3),
        A.CoarseDropout(
            num_holes_range=(1, 3),
            hole_height_range=(0.08, 0.25),
            hole_width_range=(0.08, 0.25),
            fill="random_uniform",
            p=0.2,
        ),
    ]
