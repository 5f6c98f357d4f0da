"""The settings of every stage: one frozen dataclass a stage."""

from saliency_gan.config.directions import DiscoverConfig, MasksConfig
from saliency_gan.config.evaluation import EvaluateConfig, ReportConfig
from saliency_gan.config.generators import TrainGanConfig
from saliency_gan.config.saliency import AdaptConfig, PredictConfig, TrainSaliencyConfig
from saliency_gan.config.stage import Device, Precision, StageConfig, to_plain

STAGES: dict[str, type[StageConfig]] = {
    "train-gan": TrainGanConfig,
    "discover": DiscoverConfig,
    "masks": MasksConfig,
    "train-saliency": TrainSaliencyConfig,
    "adapt": AdaptConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "report": ReportConfig,
}
"""Verb of the command line and section of a pipeline YAML -> settings."""

__all__ = [
    "STAGES",
    "AdaptConfig",
    "Device",
    "DiscoverConfig",
    "EvaluateConfig",
    "MasksConfig",
    "Precision",
    "PredictConfig",
    "ReportConfig",
    "StageConfig",
    "TrainGanConfig",
    "TrainSaliencyConfig",
    "to_plain",
]
