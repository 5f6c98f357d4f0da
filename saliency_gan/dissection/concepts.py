"""Concepts: functions s_c(x) that say where in an image a concept is."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from saliency_gan.directions.criteria import gradient_magnitude
from saliency_gan.images.tensors import to_unit
from saliency_gan.saliency.generated import mark_generated
from saliency_gan.saliency.model import SaliencyModel, load_model


class ConceptSource(ABC):
    """Says of every pixel which concepts it belongs to.

    Attributes:
        names: One name for each concept; all names differ.
        kinds: The kind of each concept: object, colour, light, texture or place.
        graded: Names of the concepts whose `share` has a gradient.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    graded: tuple[str, ...] = ()

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Images, float [N, channels, H, W] in [-1, 1] -> bool [N, concepts, H, W]."""

    def share(self, images: Tensor, concept: int) -> Tensor:
        """The share of every image that shows a concept, float [N] in [0, 1]: E_P[s_c(x)]."""
        return self(images)[:, concept].float().mean((1, 2))


class Saliency(ConceptSource):
    """`salient object` and `background`, which a saliency model separates.

    Args:
        model: The model; None takes the bundled one.
    """

    names = graded = ("salient object", "background")
    kinds = ("object", "object")

    def __init__(self, model: SaliencyModel | None = None) -> None:
        self.model = (model or load_model()).eval().requires_grad_(False)

    def soft(self, images: Tensor) -> Tensor:
        """The saliency map, float [N, H, W] in [0, 1]; gradients reach the images."""
        return mark_generated(self.model, images)

    def __call__(self, images: Tensor) -> Tensor:
        """See `ConceptSource`; an object is where the map is at least 0.5."""
        salient = self.soft(images) >= 0.5
        return torch.stack([salient, ~salient], dim=1)

    def share(self, images: Tensor, concept: int) -> Tensor:
        """See `ConceptSource`; the mean of the soft map."""
        salient = self.soft(images).mean((1, 2))
        return 1 - salient if concept else salient


class Appearance(ConceptSource):
    """Colour names, light, texture and place, which are computed from the pixels.

    A pixel has a colour if its saturation is at least 0.25 and its value at least 0.2 (hue, saturation and value as
    in HSV). The other pixels are white, grey or black by their value. A pixel is an edge if the gradient of its
    brightness is above 0.08 per pixel.
    """

    names = (
        "red",
        "yellow",
        "green",
        "cyan",
        "blue",
        "magenta",
        "white",
        "grey",
        "black",
        "bright",
        "dark",
        "edges",
        "flat",
        "top",
        "middle",
        "bottom",
    )
    kinds = ("colour",) * 9 + ("light",) * 2 + ("texture",) * 2 + ("place",) * 3

    def __call__(self, images: Tensor) -> Tensor:
        """See `ConceptSource`."""
        pixels = to_unit(images.float()).expand(-1, 3, -1, -1)
        value, lowest = pixels.amax(1), pixels.amin(1)
        chroma = value - lowest
        coloured = (chroma >= 0.25 * value) & (value >= 0.2)
        nearest = _hue(pixels, value, chroma).add(30).remainder(360).div(60, rounding_mode="floor")
        light = pixels.mean(1)
        edges = gradient_magnitude(light) > 0.08
        rows = torch.arange(images.shape[-2], device=images.device) * 3 // images.shape[-2]
        thirds = [(rows == third)[:, None].expand_as(edges) for third in range(3)]
        found = [
            *(coloured & (nearest == number) for number in range(6)),
            ~coloured & (value >= 0.75),
            ~coloured & (value >= 0.2) & (value < 0.75),
            value < 0.2,
            light >= 0.6,
            light < 0.3,
            edges,
            ~edges,
            *thirds,
        ]
        return torch.stack(found, dim=1)


class Joined(ConceptSource):
    """Several sources joined into one.

    Raises:
        ValueError: If two concepts have the same name.
    """

    def __init__(self, sources: Sequence[ConceptSource]) -> None:
        self.sources = tuple(sources)
        self.names = tuple(name for source in sources for name in source.names)
        self.kinds = tuple(kind for source in sources for kind in source.kinds)
        self.graded = tuple(name for source in sources for name in source.graded)
        if twice := sorted(name for name, count in Counter(self.names).items() if count > 1):
            raise ValueError(f"Two concepts have the same name: {', '.join(twice)}.")

    def __call__(self, images: Tensor) -> Tensor:
        """See `ConceptSource`."""
        return torch.cat([source(images) for source in self.sources], dim=1)

    def share(self, images: Tensor, concept: int) -> Tensor:
        """See `ConceptSource`."""
        for source in self.sources:
            if concept < len(source.names):
                return source.share(images, concept)
            concept -= len(source.names)
        raise IndexError(f"There are only {len(self.names)} concepts.")


def _hue(pixels: Tensor, value: Tensor, chroma: Tensor) -> Tensor:
    """Hue in degrees, float [N, H, W] in [0, 360), of RGB [N, 3, H, W] in [0, 1]; 0 for pixels without a colour."""
    red, green, blue = pixels.unbind(1)
    safe = chroma.clamp(min=1e-6)
    sixth = torch.where(
        value == red,
        ((green - blue) / safe).remainder(6),
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    return torch.where(chroma > 0, 60 * sixth, 0.0)
