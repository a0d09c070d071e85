"""One recipe per trained thing."""

from lightning_modules.answer import AnswerModule
from lightning_modules.latency_estimator import LatencyEstimatorModule
from lightning_modules.vlm import VLMModule

__all__ = ["AnswerModule", "LatencyEstimatorModule", "VLMModule"]
