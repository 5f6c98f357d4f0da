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
        shards: Folder of synthetic pairs to mix in, or its web address; by default the run's masks folder.
        synthetic_share: Share of synthetic pairs in each batch, from 0 to below 1.
        backdrop: Share of the synthetic pairs whose objects are pasted onto other backgrounds, as in train-saliency, 0
            to 1.
    """

    run: Path = Path("runs/adapted")
    weights: Path | None = None
    shards: str | Path | None = None
    synthetic_share: float = 0.0
    backdrop: float = 0.85

    @property
    def synthetic_pairs(self) -> int:
        """Number of synthetic pairs in each batch."""
        return round(self.batch * self.synthetic_share)

    def inputs(self) -> dict[str, Input]:
        inputs = {"model": self.layout.saliency_model(self.weights, ["student", "saliency"])}
        return {**inputs, "pairs": self.layout.pairs(self.shards)} if self.synthetic_share else inputs

    def check(self) -> None:
        super().check()
        require_share(self, "synthetic_share", "backdrop")
        photos = self.batch - self.synthetic_pairs
        enough = self.synthetic_share == 0 or (self.synthetic_pairs >= 1 and photos >= 1)
        least, most = 1 / self.batch, 1 - 1 / self.batch
        expected = f"0, or from {least:g} to {most:g}, so that a batch of {self.batch} has both pairs and photos"
        require(self, "synthetic_share", enough, expected)

    def writes(self) -> list[Path]:
        return [self.run / "saliency-adapted" / name for name in ("model.safetensors", "config.json", "metrics.jsonl")]
