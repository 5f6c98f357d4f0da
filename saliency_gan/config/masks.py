"""Settings of `masks`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from saliency_gan.config.checks import require, require_positive, require_share, require_shifts
from saliency_gan.config.generator import DrawingConfig
from saliency_gan.storage.run_layout import Input

MaskRule = Literal["threshold", "difference", "lighting", "two-sided", "units"]


@dataclass(frozen=True, kw_only=True)
class MasksConfig(DrawingConfig):
    """Stage 2: synthesises pairs of an image G(z, c) and the mask [G(z + h_bg, c) < theta].

    Args:
        directions: Folder with directions.safetensors and directions.json; by default the run's discover folder, else
            the bundled directions of a bundled generator.
        dissection: Folder with the dissection.json whose units the units rule uses; by default the run's dissect
            folder, else the bundled dissection of a bundled generator.
        pairs: Number of pairs to write; a later call may ask for more, not for fewer.
        batch: Latents per batch.
        rule: How masks are made: threshold (as in the paper), difference (compares plus and minus shift), lighting
            (compares original and shifted image), two-sided (both signs must agree), units (units that paint the object
            vote, without a shift; run dissect first) or consensus (combines several of these).
        theta: Brightness threshold in [0, 1] of the threshold and two-sided rules; otsu finds a threshold for each
            image in every rule.
        margin: In the lighting and difference rules, pixels whose brightness gains more than this, in [0, 1], are
            background; not used if theta is otsu; 0 as published.
        votes: In the units rule, pixels where the object has more than this share of the votes are object; not used if
            theta is otsu.
        consensus: Rules that the consensus rule combines.
        quorum: Number of these rules that must mark a pixel as object; by default more than half. The number of all
            rules gives their intersection.
        shift: Shift magnitude along h_bg; by default the one chosen in stage 1.
        min_area: Masks that cover a smaller share of the image are rejected.
        max_area: Masks that cover a larger share of the image are rejected.
        opening: Diameter in pixels of the morphological opening; 0 for none.
        min_component: Components smaller than this share of the largest one are removed; 0 keeps all.
        fill_holes: Fill holes of the mask.
        max_border: Masks that cover a larger share of the image's border are rejected; 1 accepts all.
        two_peaks: Reject shifted images whose 12-bin brightness histogram has fewer than two peaks.
        min_agreement: Reject masks whose IoU with the mask of a second rule is lower. The second rule is lighting, or
            threshold if the rule is lighting. The consensus rule uses the mean IoU over all pairs of its rules instead.
            0 for no check.
        min_stability: Reject masks whose IoU with the mask at half of the shift is lower, because the shift changes the
            shape of their objects. Draws one more image for each shifted one. 0 for no check.
        judge: Saliency model that measures the mask fit of each accepted pair: the IoU of its mask with what the model
            marks on the image. `bundled` names the bundled model. By default, the fit is not measured.
        min_fit: Masks with a lower fit are rejected; needs a judge. The paper has no such check, and a judge that
            learned from such masks only confirms what it knows. 0 for no check.
        shard_size: Pairs per shard.
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
    min_stability: float = 0.0
    judge: Path | None = None
    min_fit: float = 0.0
    shard_size: int = 1000
    image_format: Literal["png", "jpg"] = "png"

    @property
    def rules(self) -> tuple[MaskRule, ...]:
        """The rules that are computed: those of the consensus, or the rule and the one that it is compared with."""
        if self.rule == "consensus":
            return self.consensus
        second: MaskRule = "threshold" if self.rule == "lighting" else "lighting"
        return (self.rule, second) if self.min_agreement else (self.rule,)

    @property
    def shifts(self) -> bool:
        """Whether images shifted along h_bg are needed."""
        return self.two_peaks or any(rule != "units" for rule in self.rules)

    @property
    def named_directions(self) -> Path | None:
        return self.directions

    def inputs(self) -> dict[str, Input]:
        choice = self.choice
        inputs = choice.inputs
        if self.shifts:
            inputs["directions"] = self.layout.directions(self.directions, choice.name)
        if "units" in self.rules:
            inputs["dissection"] = self.layout.dissection(self.dissection, choice.name)
        if self.judge:
            inputs["judge"] = self.layout.saliency_model(self.judge)
        return inputs

    def check(self) -> None:
        asked, rules = self.quorum, self.consensus
        known = (*get_args(MaskRule), "consensus")
        require(self, "rule", self.rule in known, f"one of {', '.join(known)}")
        require_positive(self, "pairs", "batch", "shard_size")
        require(self, "theta", self.theta == "otsu" or 0 < self.theta <= 1, "above 0 and at most 1, or otsu")
        require(self, "margin", 0 <= self.margin < 1, "from 0 to below 1")
        require(self, "votes", 0 <= self.votes < 1, "from 0 to below 1")
        require(self, "consensus", 1 < len(rules) == len(set(rules)), "two or more different rules")
        require(self, "quorum", asked is None or 1 <= asked <= len(rules), f"from 1 to {len(rules)}")
        require(self, "max_area", 0 <= self.min_area <= self.max_area <= 1, "from min_area to 1")
        require(self, "opening", self.opening in (0, *range(1, 256, 2)), "0 or an odd number of pixels")
        require_share(self, "min_component", "max_border", "min_agreement", "min_stability", "min_fit")
        makers = self.consensus if self.rule == "consensus" else (self.rule,)
        shifted = any(rule != "units" for rule in makers)
        require(self, "min_stability", shifted or not self.min_stability, "0 for a rule without a shift")
        require_shifts(self, "shift", self.shift or 0)
        require(self, "shift", self.shift is None or self.shift > 0, "above 0: discover --sign flips h_bg")
        judged = self.judge is not None or not self.min_fit
        require(self, "min_fit", judged, "0 without a --judge, for example --judge bundled")

    def writes(self) -> list[Path]:
        return [self.run / "masks" / name for name in ("shard-*.tar", "manifest.json", "preview.png", "records")]
