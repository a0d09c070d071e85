"""One recipe per trained thing."""

from lightning_modules.adaptive_inference import AdaptiveInferenceModule
from lightning_modules.answer import AnswerModule
from lightning_modules.grpo_controller import GRPOControllerModule
from lightning_modules.latency_estimator import LatencyEstimatorModule
from lightning_modules.llm_based_controller import LLMBasedControllerModule
from lightning_modules.supervised_controller import SupervisedControllerModule
from lightning_modules.two_stage_controller import TwoStageControllerModule
from lightning_modules.vlm import VLMModule

__all__ = [
    "AdaptiveInferenceModule",
    "AnswerModule",
    "GRPOControllerModule",
    "LLMBasedControllerModule",
    "LatencyEstimatorModule",
    "SupervisedControllerModule",
    "TwoStageControllerModule",
    "VLMModule",
]
