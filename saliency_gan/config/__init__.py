"""The settings of every verb: one file and one frozen dataclass for each."""

from saliency_gan.compute.types import Device, Precision
from saliency_gan.config.adapt import AdaptConfig
from saliency_gan.config.annotate import AnnotateConfig
from saliency_gan.config.app import AppConfig
from saliency_gan.config.discover import DiscoverConfig
from saliency_gan.config.dissect import DissectConfig
from saliency_gan.config.eigen import EigenConfig
from saliency_gan.config.evaluate import EvaluateConfig
from saliency_gan.config.export import ExportConfig
from saliency_gan.config.generator import DrawingConfig, GeneratorConfig
from saliency_gan.config.generators import GeneratorsConfig
from saliency_gan.config.masks import MaskRule, MasksConfig
from saliency_gan.config.mos import MosConfig
from saliency_gan.config.predict import PredictConfig
from saliency_gan.config.rate import RateConfig
from saliency_gan.config.report import ReportConfig
from saliency_gan.config.self_training import MarkRefinement, SelfTrainingConfig
from saliency_gan.config.stage import LendingConfig, RunConfig, Settings, StageConfig, to_plain
from saliency_gan.config.sweep import SweepConfig, SweepPoint, paper_name, shown, sweep_points
from saliency_gan.config.train_gan import TrainGanConfig
from saliency_gan.config.train_saliency import TrainSaliencyConfig
from saliency_gan.config.train_student import TrainStudentConfig
from saliency_gan.config.walk import WalkConfig

STAGES: dict[str, type[Settings]] = {
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
"""Verb -> its settings. A verb is a command, and a section of a pipeline YAML."""

__all__ = [
    "STAGES",
    "AdaptConfig",
    "AnnotateConfig",
    "AppConfig",
    "Device",
    "DiscoverConfig",
    "DissectConfig",
    "DrawingConfig",
    "EigenConfig",
    "EvaluateConfig",
    "ExportConfig",
    "GeneratorConfig",
    "GeneratorsConfig",
    "LendingConfig",
    "MarkRefinement",
    "MaskRule",
    "MasksConfig",
    "MosConfig",
    "Precision",
    "PredictConfig",
    "RateConfig",
    "ReportConfig",
    "RunConfig",
    "SelfTrainingConfig",
    "Settings",
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
