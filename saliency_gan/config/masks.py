"""Settings of `masks`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from saliency_gan.config.checks import require, require_positive, require_share
from saliency_gan.config.generator import DrawingConfig
from saliency_gan.storage.run_layout import GeneratorChoice, Input

MaskRule = Literal["threshold", "difference", "lighting", "two-sided", "units"]


@dataclass(frozen=True, kw_only=True)
class MasksConfig(DrawingConfig):
    """Stage 2: synthesises pairs of an image G(z, c) and the mask [G(z + h_bg, c) < theta].

    Args:
        directions: Folder with directions.safetensors and directions.json; by default the run's discover folder, else
            the bundled directions of a bundled generator.
        dissection: Folder with the dissection.json whose units the units rule asks; by default the run's dissect
            folder, else the bundled dissection of a bundled generator.
        pairs: Pairs to write; more can be asked for later.
        batch: Latents drawn at once.
        rule: threshold (the paper's), difference (plus against minus shift), lighting (original against shifted),
            two-sided (agreement of both signs), units (votes of the units that paint the object, no shift; run dissect
            first) or consensus (of several of these).
        theta: Brightness threshold in [0, 1] of the threshold and two-sided rules, or otsu for one an image in every
            rule.
        margin: Brightness in [0, 1] that the background gains at least in the lighting and difference rules, unless
            theta is otsu; 0 as published.
        votes: Share of the units' votes above which the units rule calls a pixel object, unless theta is otsu.
        consensus: The rules that the consensus rule asks.
        quorum: How many of them have to call a pixel object; by default more than half, all for their intersection.
        shift: Shift magnitude along h_bg; by default the one chosen in stage 1.
        min_area: Masks that cover a smaller share of the image are rejected.
        max_area: Masks that cover a larger share of the image are rejected.
        opening: Diameter in pixels of the morphological opening; 0 for none.
        min_component: Components smaller than this share of the largest one are removed; 0 keeps all.
        fill_holes: Fill holes of the mask.
        max_border: Masks that cover a larger share of the image's border are rejected; 1 accepts all.
        two_peaks: Reject shifted images whose 12-bin brightness histogram has fewer than two peaks.
        min_agreement: Reject masks whose IoU with a second rule's is lower: lighting, or threshold where the rule is
            lighting. For the consensus rule it is the mean IoU of any two of its rules. 0 for no check.
        shard_size: Pairs a shard.
        image_format: png or jpg for the images; masks are always png.
    """

    directions: Path | None = None
    dissection: Path | None = None
    pairs: int = 10_000
    batch: int = 64
    rule: MaskRule | Literal["consensus"] = "threshold"
    theta: float | Literal["otsu"] = 0.9
    margin: float = 0.0
    votes: float = 0.5
    consensus: tuple[MaskRule, ...] = ("threshold", "units")
    quorum: int | None = None
    shift: float | None = None
    min_area: float = 0.05
    max_area: float = 0.6
    opening: int = 3
    min_component: float = 0.2
    fill_holes: bool = True
    max_border: float = 0.5
    two_peaks: bool = False
    min_agreement: float = 0.0
    shard_size: int = 1000
    image_format: Literal["png", "jpg"] = "png"

    @property
    def rules(self) -> tuple[MaskRule, ...]:
        """The rules that are asked: those of a consensus, or the rule and the one that it is compared with."""
        if self.rule == "consensus":
            return self.consensus
        second: MaskRule = "threshold" if self.rule == "lighting" else "lighting"
        return (self.rule, second) if self.min_agreement else (self.rule,)

    @property
    def shifts(self) -> bool:
        """Whether anything is shifted along h_bg."""
        return self.two_peaks or any(rule != "units" for rule in self.rules)

    @property
    def choice(self) -> GeneratorChoice:
        given = (self.generator, self.weights, self.truncation, self.ablate_units)
        return self.layout.generator(*given, bundled=self.DEFAULT, directions=self.directions)

    def inputs(self) -> dict[str, Input]:
        choice = self.choice
        inputs = choice.inputs
        if self.shifts:
            inputs["directions"] = self.layout.directions(self.directions, choice.name)
        if "units" in self.rules:
            inputs["dissection"] = self.layout.dissection(self.dissection, choice.name)
        return inputs

    def check(self) -> None:
        asked, rules = self.quorum, self.consensus
        require_positive(self, "pairs", "batch", "shard_size")
        require(self, "theta", self.theta == "otsu" or 0 < self.theta <= 1, "above 0 and at most 1, or otsu")
        require(self, "margin", 0 <= self.margin < 1, "from 0 to below 1")
        require(self, "votes", 0 <= self.votes < 1, "from 0 to below 1")
        require(self, "consensus", 1 < len(rules) == len(set(rules)), "two or more different rules")
        require(self, "quorum", asked is None or 1 <= asked <= len(rules), f"from 1 to {len(rules)}")
        require(self, "max_area", 0 <= self.min_area <= self.max_area <= 1, "from min_area to 1")
        require(self, "opening", self.opening in (0, *range(1, 256, 2)), "0 or an odd number of pixels")
        require_share(self, "min_component", "max_border", "min_agreement")

    def writes(self) -> list[Path]:
        return [self.run / "masks" / name for name in ("shard-*.tar", "manifest.json", "preview.png", "records")]
