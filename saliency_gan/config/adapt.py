"""Settings of `adapt`."""

from dataclasses import dataclass
from pathlib import Path

from saliency_gan.config.checks import require, require_share
from saliency_gan.config.self_training import SelfTrainingConfig
from saliency_gan.storage.run_layout import Input


@dataclass(frozen=True, kw_only=True)
class AdaptConfig(SelfTrainingConfig):
    """Continues training a saliency model on unlabelled photos of the kind that it will be used on.

    Args:
        weights: Saliency model to start from: model.safetensors or its folder, or `bundled`; by default the run's
            student, else its U-Net trained on generated pairs, else the bundled model.
        shards: Folder of synthetic pairs to mix in, or its web address; by default the run's masks folder, if there is
            one.
        synthetic_share: Share of synthetic pairs in each batch, from 0 to below 1.
        backdrop: Share of the synthetic pairs whose objects are pasted onto other backgrounds, as in train-saliency, 0
            to 1.
    """

    run: Path = Path("runs/adapted")
    weights: Path | None = None
    shards: str | Path | None = None
    synthetic_share: float = 0.0
    backdrop: float = 0.85

    def inputs(self) -> dict[str, Input]:
        inputs = {"model": self.layout.saliency_model(self.weights, ["student", "saliency"])}
        pairs = self.layout.pairs(self.shards)
        return inputs if pairs.origin == "missing" or not self.synthetic_share else {**inputs, "pairs": pairs}

    def check(self) -> None:
        super().check()
        require_share(self, "synthetic_share", "backdrop")
        require(self, "synthetic_share", self.synthetic_share < 1, "below 1, so that photos are left: say 0.25")

    def writes(self) -> list[Path]:
        return [self.run / "saliency-adapted" / name for name in ("model.safetensors", "config.json", "metrics.jsonl")]
