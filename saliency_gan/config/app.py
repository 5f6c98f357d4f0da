"""Settings of `app`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saliency_gan.compute.types import Device
from saliency_gan.config.checks import require_port, require_positive, require_seed
from saliency_gan.config.generator import GeneratorConfig
from saliency_gan.config.masks import MasksConfig
from saliency_gan.config.stage import LendingConfig
from saliency_gan.errors import UserError
from saliency_gan.storage.run_layout import GeneratorChoice, Input, is_custom
from saliency_gan.storage.yaml_files import read_yaml

MASK_SETTINGS = (
    "rule", "theta", "margin", "votes", "consensus", "quorum", "shift", "opening", "min_component",
    "fill_holes", "generator", "truncation", "ablate_units",
)  # fmt: skip
MASK_PATHS = ("directions", "dissection", "weights")
"""Settings of `masks` that the page takes over from a run."""


@dataclass(frozen=True, kw_only=True)
class AppConfig(LendingConfig):
    """Serves a local web page that cuts out photos and moves images along directions of a generator.

    Args:
        weights: Saliency model: model.safetensors or its folder, or `bundled`; by default the run's adapted model, else
            its student, else its U-Net trained on generated pairs, else the bundled model.
        generator: Name that the verb `generators` lists, path of a generator file, or PATH.py:FUNCTION (this runs the
            code); by default the generator of the run's directions, else the one that the run trained, else a bundled
            one.
        ablate_units: Units of the generator to switch off in every image, LAYER:U,U,U (for example block1:3,17,42),
            once for each layer; by default the same units as in discover.
        port: Port on 127.0.0.1; 0 takes any free one.
        browser: Open the page in the browser.
        max_megabytes: Largest size of a photo in MB; larger photos are refused.
        seed: Random seed of the generated images.
        device: Where to compute; auto takes CUDA, then Apple's MPS, then the CPU.
    """

    weights: Path | None = None
    generator: str | None = None
    ablate_units: tuple[str, ...] = ()
    port: int = 7860
    browser: bool = True
    max_megabytes: int = 20

    seed: int = 0
    device: Device = "auto"

    @property
    def model(self) -> Input:
        """The saliency model."""
        return self.layout.saliency_model(self.weights)

    @property
    def mask_settings(self) -> MasksConfig:
        """Settings of the rule that made the run's masks, with their generator, directions and dissection; the default
        rule if the run has no masks.

        Raises:
            UserError: If the run's file holds other settings.
        """
        path = self.run / "masks" / "config.yaml" if self.run else None
        written = read_yaml(path) if path and path.is_file() else {}
        known: dict[str, Any] = {name: written[name] for name in MASK_SETTINGS if name in written}
        known = {name: tuple(value) if isinstance(value, list) else value for name, value in known.items()}
        try:
            known |= {name: Path(written[name]) for name in MASK_PATHS if written.get(name)}
            settings = MasksConfig(**known, seed=self.seed, device=self.device)
            settings.check()
        except (UserError, TypeError, ValueError) as error:
            raise UserError(f"{path} is not as masks wrote it ({str(error)[:150]}): run masks again.") from None
        return settings

    @property
    def choice(self) -> GeneratorChoice:
        """The generator that follows from these settings and the run."""
        masks = self.mask_settings
        name, weights, truncation, units = self.generator, None, None, self.ablate_units
        moved = masks.generator and Path(masks.generator).name != masks.generator and not Path(masks.generator).exists()
        if self.generator is None and masks.generator is not None and not moved:
            if is_custom(masks.generator):
                raise UserError(
                    f"The masks in {self.run} were drawn by {masks.generator}, which is code, and code is only run when"
                    f" a person names it: add --generator {masks.generator}."
                )
            name, weights, truncation = masks.generator, masks.weights, masks.truncation
            units = self.ablate_units or masks.ablate_units
        return self.layout.generator(
            name, weights, truncation, units, bundled=GeneratorConfig.DEFAULT, directions=masks.directions
        )

    @property
    def directions(self) -> Input:
        """The directions to move along."""
        return self.layout.directions(self.mask_settings.directions, self.choice.name)

    @property
    def dissection(self) -> Input:
        """The dissection, which says what each unit paints."""
        return self.layout.dissection(self.mask_settings.dissection, self.choice.name)

    def inputs(self) -> dict[str, Input]:
        inputs = {"model": self.model, **self.choice.inputs, "directions": self.directions}
        return inputs if self.dissection.origin == "missing" else {**inputs, "dissection": self.dissection}

    def check(self) -> None:
        require_positive(self, "max_megabytes")
        require_port(self)
        require_seed(self)
