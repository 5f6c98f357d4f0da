"""The settings of every stage: one frozen dataclass a stage."""

from saliency_gan.compute.types import Device, Precision
from saliency_gan.config.app import AppConfig
from saliency_gan.config.directions import DiscoverConfig, MaskRule, MasksConfig
from saliency_gan.config.dissection import DissectConfig
from saliency_gan.config.eigen import EigenConfig
from saliency_gan.config.evaluation import EvaluateConfig, ReportConfig
from saliency_gan.config.export import ExportConfig
from saliency_gan.config.generators import GeneratorsConfig, TrainGanConfig
from saliency_gan.config.prediction import PredictConfig
from saliency_gan.config.rating import AnnotateConfig, MosConfig, RateConfig, WalkConfig
from saliency_gan.config.saliency import TrainSaliencyConfig
from saliency_gan.config.stage import StageConfig, to_plain
from saliency_gan.config.student import AdaptConfig, Refinement, SelfTrainingConfig, TrainStudentConfig
from saliency_gan.config.sweep import SweepConfig, SweepPoint, paper_name, shown, sweep_points

STAGES: dict[str, type[StageConfig]] = {
    "generators": GeneratorsConfig,
    "train-gan": TrainGanConfig,
    "discover": DiscoverConfig,
    "eigen": EigenConfig,
    "dissect": DissectConfig,
    "sweep": SweepConfig,
    "annotate": AnnotateConfig,
    "walk": WalkConfig,
    "rate": RateConfig,
    "mos": MosConfig,
    "masks": MasksConfig,
    "train-saliency": TrainSaliencyConfig,
    "train-student": TrainStudentConfig,
    "adapt": AdaptConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "export": ExportConfig,
    "app": AppConfig,
    "report": ReportConfig,
}
"""Verb of the command line and section of a pipeline YAML -> settings."""

__all__ = [
    "STAGES",
    "AdaptConfig",
    "AnnotateConfig",
    "AppConfig",
    "Device",
    "DiscoverConfig",
    "DissectConfig",
    "EigenConfig",
    "EvaluateConfig",
    "ExportConfig",
    "GeneratorsConfig",
    "MaskRule",
    "MasksConfig",
    "MosConfig",
    "Precision",
    "PredictConfig",
    "RateConfig",
    "Refinement",
    "ReportConfig",
    "SelfTrainingConfig",
    "StageConfig",
    "SweepConfig",
    "SweepPoint",
    "TrainGanConfig",
    "TrainSaliencyConfig",
    "TrainStudentConfig",
    "WalkConfig",
    "paper_name",
    "shown",
    "sweep_points",
    "to_plain",
]
