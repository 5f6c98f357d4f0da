"""Settings of `app`."""

from dataclasses import dataclass
from pathlib import Path

from saliency_gan.compute.types import Device
from saliency_gan.config.checks import require_port, require_positive, require_seed
from saliency_gan.config.generator import GeneratorConfig
from saliency_gan.config.stage import LendingConfig
from saliency_gan.storage.run_layout import GeneratorChoice, Input


@dataclass(frozen=True, kw_only=True)
class AppConfig(LendingConfig):
    """Serves a local web page that cuts out photos and moves images along directions of a generator.

    Args:
        weights: Saliency model: model.safetensors or its folder, or `bundled`; by default the run's adapted model, else
            its student, else its U-Net trained on generated pairs, else the bundled model.
        generator: Name in the zoo, path of a generator file, or PATH.py:FUNCTION (this runs the code); by default the
            generator of the run's directions, else the one that the run trained, else a bundled one.
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
    def choice(self) -> GeneratorChoice:
        """The generator that follows from these settings and the run."""
        return self.layout.generator(self.generator, None, None, self.ablate_units, bundled=GeneratorConfig.DEFAULT)

    @property
    def directions(self) -> Input:
        """The directions to move along."""
        return self.layout.directions(None, self.choice.name)

    @property
    def dissection(self) -> Input:
        """The dissection, which says what each unit paints."""
        return self.layout.dissection(None, self.choice.name)

    def inputs(self) -> dict[str, Input]:
        inputs = {"model": self.model, **self.choice.inputs, "directions": self.directions}
        return inputs if self.dissection.origin == "missing" else {**inputs, "dissection": self.dissection}

    def check(self) -> None:
        require_positive(self, "max_megabytes")
        require_port(self)
        require_seed(self)
